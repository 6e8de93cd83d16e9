# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Giving memory back before the freeze: what a template does not need is not in its RAM file.

Caches that the boot filled are dropped before the rehearsal, which fills them again with what forks
need. After it, free memory is made to hold zeroes: the hypervisor makes holes of those.
"""

from __future__ import annotations

import glob
import mmap
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

DROP = "/proc/sys/vm/drop_caches"
MEMINFO = "/proc/meminfo"
# Linux 5.19 and later, see its cgroup-v2.rst.
RECLAIM, EVERYTHING = "/sys/fs/cgroup/{}/memory.reclaim", 1 << 30
GROUPS = ("system.slice", "user.slice", "init.scope")
# How much of a file is read beyond what somebody asked for (KiB), and how much while it is
# rehearsed what forks do.
READ_AHEAD, LITTLE = "/sys/block/*/queue/read_ahead_kb", "4"
OOM_SCORE = "/proc/self/oom_score_adj"
# What the kernel is told meanwhile: to make no large pages of small ones, which takes minutes under
# emulation, and to look for memory only when it has this much left (KiB). It keeps far more where
# it has huge pages.
SETTINGS = {"/proc/sys/vm/compaction_proactiveness": "0", "/proc/sys/vm/min_free_kbytes": "1024"}
# What is left alone, so that the kernel never has to look for memory, and how much is taken at a
# time.
MARGIN, STEP = 10 << 20, 1 << 20
# Linux 5.14 and later (madvise(2)); Python has no name for it.
MADV_POPULATE_WRITE = 23


def drop_caches() -> None:
    """Forget files that were read and nobody has open."""
    os.sync()
    _write(DROP, "3")


def reclaim() -> None:
    """Evict the pages of programs that run: dropping caches leaves what is mapped, and forks need
    half of that.
    """
    for group in GROUPS:
        # The kernel reports that it could not free as much as this. An old one has no such file.
        with suppress(OSError):
            _write(RECLAIM.format(group), str(EVERYTHING))


def forget(program: str) -> None:
    """Take a program that no fork needs out of memory again."""
    if path := shutil.which(program):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


@contextmanager
def little_read_ahead() -> Iterator[None]:
    """Have only those parts of files in memory that somebody reads."""
    with _settings(dict.fromkeys(glob.glob(READ_AHEAD), LITTLE)):
        yield


def zero_free_memory(patience: float) -> bool:
    """Take nearly all free memory, which the kernel hands out zeroed, and give it back.

    In a process of its own, the first that the kernel would kill: a guest that has less memory than
    it seems is none the worse for it.

    :param patience: seconds.
    :return: whether it was done by then.
    """
    with _settings(SETTINGS):
        child = os.fork()
        if child == 0:
            _take_and_exit()
        done = _end(child, time.monotonic() + patience)
    if not done:
        sys.stderr.write(
            "<4>free memory could not be zeroed: the template is larger than it need be\n"
        )
    return done


@contextmanager
def _settings(wanted: dict[str, str]) -> Iterator[None]:
    before = {path: _read(path) for path in wanted}
    try:
        for path, value in wanted.items():
            _write(path, value)
        yield
    finally:
        for path, value in before.items():
            _write(path, value)


def _take_and_exit() -> None:
    """What the other process does: it gives everything back by ending."""
    code = 1
    try:
        _write(OOM_SCORE, "1000")
        _take()
        code = 0
    finally:
        os._exit(code)


def _take() -> None:
    held: list[mmap.mmap] = []
    while free_bytes() > MARGIN + STEP:
        part = mmap.mmap(-1, STEP, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        held.append(part)
        part.madvise(mmap.MADV_NOHUGEPAGE)
        part.madvise(MADV_POPULATE_WRITE)


def _end(child: int, end: float) -> bool:
    """Wait for a process, and end it when the time is over."""
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status == 0
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.05)


def free_bytes() -> int:
    """Memory that nothing uses at all."""
    for line in _read(MEMINFO).splitlines():
        if line.startswith("MemFree:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: str) -> str:
    with open(path, encoding="ascii") as handle:
        return handle.read()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as handle:
        handle.write(text)
