# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Giving memory back before the freeze: what a template does not need is not in its RAM file.

Caches that the boot filled are dropped before the rehearsal, which fills them again with what forks need. After it,
free memory is made to hold zeroes: the hypervisor makes holes of those.
"""

from __future__ import annotations

import mmap
import os

DROP = "/proc/sys/vm/drop_caches"
COMPACTION = "/proc/sys/vm/compaction_proactiveness"
MEMINFO = "/proc/meminfo"
# What is left alone, so that the kernel never has to look for memory, and how much is taken at a time.
MARGIN, STEP = 24 << 20, 8 << 20
# Linux 5.14 and later (madvise(2)); Python has no name for it.
MADV_POPULATE_WRITE = 23


def drop_caches() -> None:
    """Forget files that were read and nobody has open."""
    os.sync()
    _write(DROP, "3")


def zero_free_memory() -> None:
    """Take nearly all free memory, which the kernel hands out zeroed, and give it back.

    In small pages, and without the kernel making large ones meanwhile: under emulation that takes minutes.
    """
    with open(COMPACTION, encoding="ascii") as handle:
        before = handle.read()
    _write(COMPACTION, "0")
    held: list[mmap.mmap] = []
    try:
        while free_bytes() > MARGIN + STEP:
            part = mmap.mmap(-1, STEP, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            held.append(part)
            part.madvise(mmap.MADV_NOHUGEPAGE)
            part.madvise(MADV_POPULATE_WRITE)
    finally:
        for part in held:
            part.close()
        _write(COMPACTION, before)


def free_bytes() -> int:
    """Memory that nothing uses at all."""
    with open(MEMINFO, encoding="ascii") as handle:
        for line in handle:
            if line.startswith("MemFree:"):
                return int(line.split()[1]) * 1024
    return 0


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as handle:
        handle.write(text)
