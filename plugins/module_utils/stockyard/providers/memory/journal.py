# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON file of named entries, ``[name, entry]`` on each line. A later line replaces earlier lines
with the same name.

A change appends a line, so that its cost does not depend on the size of the file. From time to time
a compact file replaces it. Only complete lines count: a line that a writer left incomplete when it
died is ignored.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...files import write_atomic

HEADER = b'["stockyard memory hypervisor",1]\n'
SPARE_LINES = 200
CHUNK = 1 << 20
Entry = tuple[str, Any]


class Journal:
    """One journal file. Every process can read it at any time; a writer must hold a lock and must
    have read the file under it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # The file stays open, so that no other file can get its inode.
        self._handle = -1
        self._stamp: tuple[int, ...] = ()
        self._end = 0
        self._lines = 0

    def close(self) -> None:
        """Close the file and forget its content."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle, self._stamp, self._end, self._lines = -1, (), 0, 0

    def read(self) -> tuple[bool, list[Entry]]:
        """Return the changes since the last call: whether the entries are complete (not only the
        new ones), and the entries.

        :raises ValueError: if the file is not a journal of stockyard.
        :raises OSError: if the file cannot be read.
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
                pass  # edited in place: the entries that were read are no longer valid
        self.close()
        self._handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return True, self._rest(HEADER)

    def overlong(self, entries: int) -> bool:
        """Return whether the file should be rewritten, if it must contain so many entries."""
        return self._handle < 0 or self._lines > SPARE_LINES + 4 * entries

    def append(self, entries: Iterable[Entry]) -> None:
        """Append entries."""
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

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Replace the file by one with only these entries, completely or not at all."""
        data = HEADER + _text(entries)
        # The file survives the end of any process. A simulation need not survive a crash of the
        # machine.
        write_atomic(self.path, data, durable=False)
        self.close()
        self._handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._count(_stamp(os.fstat(self._handle)), data)

    def _rest(self, start: bytes) -> list[Entry]:
        """Return the entries after the ones that were read. ``start`` must precede them in the
        file.
        """
        stamp, begin = _stamp(os.fstat(self._handle)), max(0, self._end - 1)
        text = b""
        while chunk := os.pread(self._handle, CHUNK, begin + len(text)):
            text += chunk
        whole = text[: text.rfind(b"\n") + 1]
        if not whole.startswith(start):
            raise ValueError("the file is not the state of a memory hypervisor of this version")
        entries = [_entry(line) for line in whole[len(start) :].splitlines()]
        self._count(stamp, whole[self._end - begin :])
        return entries

    def _count(self, stamp: tuple[int, ...], data: bytes) -> None:
        """Record that these lines were read or written."""
        self._stamp, self._end, self._lines = (
            stamp,
            self._end + len(data),
            self._lines + data.count(b"\n"),
        )


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def _text(entries: Iterable[Entry]) -> bytes:
    return "".join(
        f"{json.dumps([name, entry], sort_keys=True)}\n" for name, entry in entries
    ).encode("ascii")


def _entry(line: bytes) -> Entry:
    try:
        item = json.loads(line)
    except RecursionError as error:
        raise ValueError("a line nests too deep") from error
    if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str):
        raise ValueError(f"a line is not an entry: {line[:60]!r}")
    return item[0], item[1]
