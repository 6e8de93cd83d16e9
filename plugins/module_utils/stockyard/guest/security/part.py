# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contribution of one theme to a security profile."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...model.recipe import GuestFile

UNITS = "/etc/systemd/system"


@dataclass(frozen=True)
class Part:
    """Packages, files, and units that must start at boot or must not start."""

    packages: tuple[str, ...] = ()
    files: dict[str, GuestFile] = field(default_factory=dict)
    enable: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()


NOTHING = Part()
