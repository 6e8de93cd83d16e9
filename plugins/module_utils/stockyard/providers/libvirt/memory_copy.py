# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of a fork's memory without a migration.

A fork maps the RAM file of its template or branch privately, so most of its memory is that file.
The kernel shows which pages differ from it (proc(5), ``pagemap``). The copy is a copy of that file
with these pages: they are copied while the fork runs, and compared once more while it is stopped.

A migration instead reads the whole memory of the guest, and QEMU before 9.0 must stop an emulated
guest for that time.

This file is a part of the text of the process of a switch-over: it imports nothing of stockyard.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

PAGE = os.sysconf("SC_PAGE_SIZE")
# Bytes that are compared at a time.
CHUNK = 64 * PAGE
# Bytes that are copied at a time if the kernel cannot copy from file to file, and its errors then.
COPIED = 256 * PAGE
NO_COPY = (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
# More private memory than this is migrated: the fork is stopped while it is compared.
LARGE = 128 << 20
# The highest byte of an entry of a page map: the page is in memory or in the swap, and it is
# neither a page of the file nor shared.
PRIVATE = bytes(int(byte & 0xC0 != 0 and not byte & 0x20) for byte in range(256))
# Private pages, and gaps between them that are read faster than they are skipped.
RUN = re.compile(rb"\x01+(?:\x00{1,8}\x01+)*")
STATE = "state"
# In the stream of a machine's state: the end of a section of memory, and the start of a section of
# a device, which contains a name.
FOOTER, SECTION = 0x7E, 0x04
HEADER = 8
# An empty description of the state.
DESCRIPTION = b"\x06" + bytes(4)


class UnsuitableMemory(Exception):
    """The memory of this machine must be migrated."""


class MemoryCopy:
    """The copy of the memory of one fork.

    :param pid: the QEMU process of the fork.
    :param blocks: the guest's address of each block of memory, and the existing file that receives
        the block. The first block is that of the template or branch.
    """

    def __init__(self, pid: int, blocks: list[tuple[int, str]]) -> None:
        self.pid = pid
        self.blocks = blocks
        self._state = b""
        self._copies: list[_Block] = []

    def copy(self, parent: Any, most: int = LARGE) -> None:
        """Copy the memory while the fork runs.

        :param parent: the monitor of the fork.
        :param most: the greatest size of private memory.
        :raises UnsuitableMemory: if this process may not read the memory, if it is larger, or if
            it is not the memory of a fork.
        """
        try:
            mappings = list(_mappings(self.pid))
            self._copies = [
                _Block(self.pid, _host_address(parent, address), path, mappings)
                for address, path in self.blocks
            ]
            base = self._copies[0].base
            if not base:
                raise UnsuitableMemory("it is not the memory of a fork")
            with open(os.path.join(os.path.dirname(base), STATE), "rb") as file:
                self._state = file.read()
            size = sum(block.private_bytes() for block in self._copies)
        except OSError as error:
            raise UnsuitableMemory(str(error)) from error
        if size > most:
            raise UnsuitableMemory("it is large")
        for block in self._copies:
            block.copy_base()
            block.update()

    def complete(self) -> None:
        """Copy the pages that were changed since. The fork is stopped."""
        for block in self._copies:
            block.update()

    def join(self, devices: bytes) -> bytes:
        """Return the state of a fork: the small blocks of memory, such as the firmware, of the
        template's state, and the state of the devices.

        :param devices: the stream of the devices alone.
        :raises UnsuitableMemory: if a stream has another format.
        """
        base = self._state
        # The first section of the devices follows the last section of memory.
        name_size = devices[HEADER + 5]
        first = devices[HEADER + 5 : HEADER + 6 + name_size + 8]
        begin = base.find(first) - 5
        if (
            devices[:HEADER] != base[:HEADER]
            or devices[HEADER] != SECTION
            or begin < HEADER
            or base[begin] != SECTION
            or base[begin - 5] != FOOTER
        ):
            raise UnsuitableMemory("QEMU's format of a state is unknown")
        return base[:begin] + devices[HEADER:] + DESCRIPTION


class _Block:
    """One block of memory and its copy."""

    def __init__(self, pid: int, address: int, path: str, mappings: list[_Mapping]) -> None:
        self.address = address
        self.size = os.stat(path).st_size
        self.base = _base(address, mappings)
        self._known = 0
        # The end of the process closes these.
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        self._map = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
        self._copy = os.open(path, os.O_RDWR)

    def private_bytes(self) -> int:
        """Return the size of the private memory."""
        return self._private().count(1) * PAGE

    def copy_base(self) -> None:
        """Copy the file that the fork maps; holes stay holes."""
        if not self.base:
            return
        with open(self.base, "rb") as source:
            for begin, end in _data(source.fileno()):
                _copy_range(source.fileno(), self._copy, begin, end)

    def update(self) -> None:
        """Copy the pages that differ from the copy."""
        # A page that was private once is compared in the next pass too.
        private = self._private()
        self._known |= int.from_bytes(private, "little")
        for run in RUN.finditer(self._known.to_bytes(len(private), "little")):
            for position in range(run.start() * PAGE, run.end() * PAGE, CHUNK):
                size = min(CHUNK, run.end() * PAGE - position)
                current = _read(self._memory, size, self.address + position)
                copied = _read(self._copy, size, position)
                if current != copied:
                    self._write(position, current, copied)

    def _write(self, position: int, current: bytes, copied: bytes) -> None:
        for begin in range(0, len(current), PAGE):
            page = current[begin : begin + PAGE]
            if page != copied[begin : begin + PAGE]:
                os.pwrite(self._copy, page, position + begin)

    def _private(self) -> bytes:
        """Return a byte for each page: 1 if the page is private."""
        entries = _read(self._map, self.size // PAGE * 8, self.address // PAGE * 8)
        return entries[7::8].translate(PRIVATE)


def _host_address(parent: Any, address: int) -> int:
    """Return the address in QEMU's process of an address of the guest."""
    text = parent("human-monitor-command", **{"command-line": f"gpa2hva {address:#x}"})
    match = re.search(r" is (0x[0-9a-f]+)", text)
    if not match:
        raise UnsuitableMemory("QEMU does not show the address of the memory")
    return int(match[1], 16)


class _Mapping(NamedTuple):
    """One mapping of a process."""

    begin: int
    end: int
    permissions: str
    inode: int
    path: str


def _mappings(pid: int) -> Iterator[_Mapping]:
    """Yield the mappings of a process (proc(5))."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            words = line.rstrip("\n").split(maxsplit=5)
            begin, end = (int(word, 16) for word in words[0].split("-"))
            path = words[5] if len(words) > 5 else ""
            yield _Mapping(begin, end, words[1], int(words[4]), path)


def _base(address: int, mappings: list[_Mapping]) -> str:
    """Return the file that is mapped privately at an address; empty if there is none.

    :raises UnsuitableMemory: if the memory is shared or not mapped, or if the file was replaced.
    """
    containing = [mapping for mapping in mappings if mapping.begin <= address < mapping.end]
    if not containing:
        raise UnsuitableMemory("it is not mapped")
    (mapping,) = containing
    if mapping.permissions[3] != "p":
        raise UnsuitableMemory("it is shared")
    if not mapping.inode:
        return ""
    if mapping.begin != address or os.stat(mapping.path).st_ino != mapping.inode:
        raise UnsuitableMemory("its file is unknown")
    return mapping.path


def _data(descriptor: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each part of a file that is no hole."""
    end = 0
    while True:
        try:
            begin = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        yield begin, end


def _copy_range(source: int, target: int, begin: int, end: int) -> None:
    """Copy a part of a file to the same place of another file. The kernel copies it, if both files
    are in one file system that can.
    """
    position = begin
    try:
        while position < end:
            position += os.copy_file_range(source, target, end - position, position, position)
    except OSError as error:
        if error.errno not in NO_COPY:
            raise
        while position < end:
            data = _read(source, min(COPIED, end - position), position)
            position += os.pwrite(target, data, position)


def _read(descriptor: int, size: int, position: int) -> bytes:
    """Read a part of a file completely."""
    data = os.pread(descriptor, size, position)
    while len(data) < size:
        more = os.pread(descriptor, size - len(data), position + len(data))
        if not more:
            raise OSError(errno.EIO, "the memory of the machine cannot be read")
        data += more
    return data
