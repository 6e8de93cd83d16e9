# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reduction of a template's memory before the freeze: its RAM file contains only useful pages.

The agent drops the caches of the boot before the rehearsal, which fills them again with the pages
that forks need. After the rehearsal it zeroes free memory: the hypervisor stores zeroes as holes. A
derived template keeps the caches of its parent, and the agent drops only pages of new images.
"""

from __future__ import annotations

import glob
import mmap
import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

DROP = "/proc/sys/vm/drop_caches"
MEMINFO = "/proc/meminfo"
# Linux 5.19 and later, see its cgroup-v2.rst.
RECLAIM, EVERYTHING = "/sys/fs/cgroup/{}/memory.reclaim", 1 << 30
GROUPS = ("system.slice", "user.slice", "init.scope")
# The kernel's read-ahead for files (KiB), and its value during the rehearsal.
READ_AHEAD, LITTLE = "/sys/block/*/queue/read_ahead_kb", "4"
# Docker's layers, also those of a Docker with its own user IDs.
LAYERS = ("/var/lib/docker/overlay2/*", "/var/lib/docker/*/overlay2/*")
OOM_SCORE = "/proc/self/oom_score_adj"
# The kernel's settings while free memory is zeroed: huge pages, which need far fewer page faults;
# no compaction of small pages into huge pages, which takes minutes under emulation; and reclaim
# only below this amount of free memory (KiB). With huge pages the kernel reserves far more by
# default, so this is the last setting.
SETTINGS = {
    "/sys/kernel/mm/transparent_hugepage/defrag": "never",
    "/sys/kernel/mm/transparent_hugepage/khugepaged/defrag": "0",
    "/sys/kernel/mm/transparent_hugepage/enabled": "madvise",
    "/proc/sys/vm/compaction_proactiveness": "0",
    "/proc/sys/vm/min_free_kbytes": "1024",
}
# The amount of free memory that is not zeroed, so that the kernel need not reclaim memory, and the
# size of the smallest allocation.
MARGIN, STEP = 10 << 20, 1 << 20
# Linux 5.14 and later (madvise(2)); Python has no name for it.
MADV_POPULATE_WRITE = 23


def drop_caches() -> None:
    """Drop the cached pages of files that no process has open."""
    os.sync()
    _write(DROP, "3")


def reclaim() -> None:
    """Evict the pages of running programs: dropping caches leaves mapped pages, of which forks need
    only half.
    """
    for group in GROUPS:
        # The kernel reports an error because it cannot free as much as this. An old kernel has no
        # such file.
        with suppress(OSError):
            _write(RECLAIM.format(group), str(EVERYTHING))


def forget(program: str) -> None:
    """Drop the cached pages of a program that no fork needs."""
    if path := shutil.which(program):
        _forget_file(path)


def forget_layers(since: float) -> None:
    """Drop the cached pages of images that were loaded after a time, as :func:`drop_caches` does
    in a template that is built.

    :param since: seconds since the epoch.
    """
    os.sync()
    for layer in (path for pattern in LAYERS for path in glob.glob(pattern)):
        if os.stat(layer).st_mtime < since:
            continue
        for folder, _folders, names in os.walk(layer):
            for name in names:
                path = os.path.join(folder, name)
                if stat.S_ISREG(os.lstat(path).st_mode):
                    _forget_file(path)


def _forget_file(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


@contextmanager
def little_read_ahead() -> Iterator[None]:
    """Reduce read-ahead, so that memory contains only the parts of files that processes read."""
    with _settings(dict.fromkeys(glob.glob(READ_AHEAD), LITTLE)):
        yield


def zero_free_memory(patience: float) -> bool:
    """Allocate nearly all free memory, which the kernel zeroes, and release it.

    A child process does that. It is the first process that the kernel would kill, so a guest with
    less memory than expected is not harmed.

    :param patience: seconds.
    :return: whether the child completed in time.
    """
    with _settings(SETTINGS):
        child = os.fork()
        if child == 0:
            _take_and_exit()
        completed = _end(child, time.monotonic() + patience)
    if not completed:
        sys.stderr.write(
            "<4>free memory could not be zeroed: the template is larger than it need be\n"
        )
    return completed


@contextmanager
def _settings(desired: dict[str, str]) -> Iterator[None]:
    original = {path: _setting(path) for path in desired if os.path.exists(path)}
    try:
        for path in original:
            _write(path, desired[path])
        yield
    finally:
        for path, value in original.items():
            _write(path, value)


def _setting(path: str) -> str:
    """Return the value of a setting; of a list of choices, the one in brackets."""
    text = _read(path)
    return text.partition("[")[2].partition("]")[0] or text


def _take_and_exit() -> None:
    """Allocate memory in the child process; its exit releases all of it."""
    code = 1
    try:
        _write(OOM_SCORE, "1000")
        _take()
        code = 0
    finally:
        os._exit(code)


def _take() -> None:
    mappings: list[mmap.mmap] = []
    while (available := free_bytes() - MARGIN) > STEP:
        # Half of it at a time: it takes time to read the amount, and page tables need memory too.
        size = max(STEP, available // 2 // STEP * STEP)
        mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        mappings.append(mapping)
        # One page fault of a huge page zeroes as much as 512 others. If no huge page is free, the
        # kernel uses small ones.
        with suppress(OSError):
            mapping.madvise(mmap.MADV_HUGEPAGE)
        mapping.madvise(MADV_POPULATE_WRITE)


def _end(child: int, end: float) -> bool:
    """Wait for a process, and kill it when the time is over. Return whether it succeeded."""
    while True:
        exited_pid, status = os.waitpid(child, os.WNOHANG)
        if exited_pid:
            return status == 0
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.05)


def free_bytes() -> int:
    """Return the amount of unused memory, in bytes."""
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
