# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host takes of a pool, by its nominal size."""

from __future__ import annotations

from dataclasses import dataclass

from . import naming


@dataclass(frozen=True)
class Size:
    """A machine's nominal size; nothing in it is what the machine uses just now.

    :param vcpus: virtual CPUs.
    :param memory_mib: RAM in MiB.
    :param disk_gib: virtual size of its own disk in GiB.
    """

    vcpus: int = 0
    memory_mib: int = 0
    disk_gib: int = 0

    def __post_init__(self) -> None:
        for what in ("vcpus", "memory_mib", "disk_gib"):
            naming.whole(what, getattr(self, what), 0, 1 << 30)


def grows(before: Size, after: Size) -> bool:
    """Whether more of anything is wanted than before."""
    return (
        after.vcpus > before.vcpus
        or after.memory_mib > before.memory_mib
        or after.disk_gib > before.disk_gib
    )


def larger(one: Size, other: Size) -> Size:
    """As much of everything as the one or the other has."""
    return Size(
        max(one.vcpus, other.vcpus),
        max(one.memory_mib, other.memory_mib),
        max(one.disk_gib, other.disk_gib),
    )
