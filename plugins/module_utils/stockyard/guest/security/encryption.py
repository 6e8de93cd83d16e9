# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages and files with which a guest opens encrypted volumes. The controller sends the key
through the channel each time; no disk contains it.
"""

from __future__ import annotations

from ...model.recipe import GuestFile
from ...model.security import Settings
from .part import NOTHING, Part

MODULES = "/etc/modules-load.d/stockyard-encryption.conf"


def part(settings: Settings) -> Part:
    """Return cryptsetup and its kernel module, if the settings ask for encrypted data."""
    if not settings.encrypted_data:
        return NOTHING
    return Part(packages=("cryptsetup-bin",), files={MODULES: GuestFile("dm_crypt\n")})
