# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resources of a host that count in a pool, by its nominal size."""

from __future__ import annotations

from dataclasses import dataclass

from . import naming


@dataclass(frozen=True)
class Size:
    """A machine's nominal size, independent of its present use.

    :param vcpus: the number of virtual CPUs.
    :param memory_mib: the memory, in MiB.
    :param disk_gib: the virtual size of the machine's own disk, in GiB.
    """

    vcpus: int = 0
    memory_mib: int = 0
    disk_gib: int = 0

    def __post_init__(self) -> None:
        for name in ("vcpus", "memory_mib", "disk_gib"):
            naming.whole(name, getattr(self, name), 0, 1 << 30)


def grows(before: Size, after: Size) -> bool:
    """Return whether any part of a size is larger than before."""
    return (
        after.vcpus > before.vcpus
        or after.memory_mib > before.memory_mib
        or after.disk_gib > before.disk_gib
    )


def larger(first: Size, second: Size) -> Size:
    """Return the larger value of each part of two sizes."""
    return Size(
        max(first.vcpus, second.vcpus),
        max(first.memory_mib, second.memory_mib),
        max(first.disk_gib, second.disk_gib),
    )
