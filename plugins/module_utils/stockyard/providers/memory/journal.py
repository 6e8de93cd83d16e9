# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file of named entries in JSON, ``[name, entry]`` a line; a later line about a name replaces an
earlier one.

A change adds a line, so that it costs the same however much is in the file; now and then a short
file takes its place. Only whole lines count: what a writer left half-written when it died is not
there.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HEADER = b'["stockyard memory hypervisor",1]\n'
SPARE_LINES = 200
CHUNK = 1 << 20
Entry = tuple[str, Any]


class Journal:
    """One file. Anyone may read it at any time; who writes holds a lock and has just read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.beside = path.with_name(f".{path.name}.new")
        # Kept open: as long as it is, its inode is no other file's.
        self._handle = -1
        self._stamp: tuple[int, ...] = ()
        self._end = 0
        self._lines = 0

    def close(self) -> None:
        """Forget what was read."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle, self._stamp, self._end, self._lines = -1, (), 0, 0

    def read(self) -> tuple[bool, list[Entry]]:
        """What is new since the last call: whether these are all entries that there are, and the
        entries.

        :raises ValueError: when the file is not one of ours.
        :raises OSError: when it cannot be read.
        """
        try:
            stamp = _stamp(os.stat(self.path))
        except FileNotFoundError:
            self.close()
            return True, []
        if stamp == self._stamp:
            return False, []
        if stamp[:2] == self._stamp[:2] and stamp[-1] > self._end:
            try:
                return False, self._rest(b"\n")
            except ValueError:
                pass  # edited in its place: what was read of it no longer holds
        self.close()
        self._handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return True, self._rest(HEADER)

    def overlong(self, entries: int) -> bool:
        """Whether the file is better written anew, if it is to hold this many entries."""
        return self._handle < 0 or self._lines > SPARE_LINES + 4 * entries

    def append(self, entries: Iterable[Entry]) -> None:
        """Add entries."""
        data = _text(entries)
        handle = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(handle, self._end)
            if os.pwrite(handle, data, self._end) < len(data):
                os.ftruncate(handle, self._end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            self._count(_stamp(os.fstat(handle)), data)
        finally:
            os.close(handle)

    def replace(self, entries: Iterable[Entry]) -> None:
        """Put a file with these entries alone in its place, whole or not at all."""
        # No fsync: it survives the death of any process; that of the machine is not asked of a
        # fake.
        data = HEADER + _text(entries)
        with open(
            os.open(self.beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb"
        ) as handle:
            handle.write(data)
        self.close()
        self._handle = os.open(self.beside, os.O_RDONLY | os.O_CLOEXEC)
        os.replace(self.beside, self.path)
        self._count(_stamp(os.fstat(self._handle)), data)

    def _rest(self, start: bytes) -> list[Entry]:
        """Entries that follow on what was read; ``start`` is what has to stand before them."""
        stamp, begin = _stamp(os.fstat(self._handle)), max(0, self._end - 1)
        text = b""
        while chunk := os.pread(self._handle, CHUNK, begin + len(text)):
            text += chunk
        whole = text[: text.rfind(b"\n") + 1]
        if not whole.startswith(start):
            raise ValueError("it is not the file of a memory hypervisor, or of another version")
        entries = [_entry(line) for line in whole[len(start) :].splitlines()]
        self._count(stamp, whole[self._end - begin :])
        return entries

    def _count(self, stamp: tuple[int, ...], data: bytes) -> None:
        """Note that these lines were read or written."""
        self._stamp, self._end, self._lines = (
            stamp,
            self._end + len(data),
            self._lines + data.count(b"\n"),
        )


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)


def _text(entries: Iterable[Entry]) -> bytes:
    return "".join(
        f"{json.dumps([name, entry], sort_keys=True)}\n" for name, entry in entries
    ).encode("ascii")


def _entry(line: bytes) -> Entry:
    try:
        found = json.loads(line)
    except RecursionError as error:
        raise ValueError("a line nests too deep") from error
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[0], str):
        raise ValueError(f"a line is no entry: {line[:60]!r}")
    return found[0], found[1]
