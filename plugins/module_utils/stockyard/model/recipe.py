# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipe of a guest image: all of its inputs, as values."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import codec


@dataclass(frozen=True)
class Recipe:
    """All inputs of a guest image, as text. Built by :mod:`..guest.recipe`.

    :param packages: Debian packages, sorted.
    :param files: absolute path to (mode, text).
    :param early: the same, written before packages are configured.
    :param source: a machine of the hypervisor that is cloned instead, and contains everything
        already.
    :param preload: kind, name and SHA-256 of each image that is loaded into Docker before the
        freeze.
    :param cloud_image: the checksum of the cloud image to start from; ``early`` is then the input
        of cloud-init.
    """

    suite: str
    packages: tuple[str, ...]
    early: dict[str, GuestFile]
    files: dict[str, GuestFile]
    disk_gib: int
    source: str = ""
    preload: tuple[tuple[str, str, str], ...] = ()
    cloud_image: str = field(default="", metadata=codec.SPARSE)


@dataclass(frozen=True)
class GuestFile:
    """A file in the guest, owned by root: text, or the target of a link if the mode contains
    S_IFLNK.
    """

    text: str
    mode: int = 0o644
