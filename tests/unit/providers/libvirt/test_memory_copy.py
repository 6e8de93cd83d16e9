# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The copy of a fork's memory: a process that maps a RAM file privately stands for QEMU."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockyard.providers.libvirt import memory_copy
from stockyard.providers.libvirt.memory_copy import PAGE, MemoryCopy, UnsuitableMemory

PAGES = 512
SIZE = PAGES * PAGE
# Writes the text of a line to a page: PAGE NUMBER, TEXT.
FORK = """
import ctypes, mmap, sys
path, size, page, share = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "share"
flags = mmap.MAP_SHARED if share else mmap.MAP_PRIVATE
if path:
    with open(path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), size, flags=flags)
else:
    memory = mmap.mmap(-1, size, flags=flags | mmap.MAP_ANONYMOUS)
print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), flush=True)
for line in sys.stdin:
    number, text = line.split()
    begin = int(number) * page
    memory[begin : begin + len(text)] = text.encode()
    print("written", flush=True)
"""
DEVICES = b"QEVM\0\0\0\3\4\0\0\0\0\5timer\0\0\0\0\0\0\0\2new\0"
STATE = b"QEVM\0\0\0\3\7ram, firmware\x7e\0\0\0\2\4\0\0\0\5\5timer\0\0\0\0\0\0\0\2old\0"


class Fork:
    """A process that maps memory as QEMU does. It answers as QEMU's monitor."""

    def __init__(self, path: str, *, share: bool = False) -> None:
        arguments = [path, str(SIZE), str(PAGE), "share" if share else ""]
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORK, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = int(self._line())

    def __call__(self, execute: str, **arguments: Any) -> str:
        assert (execute, arguments) == ("human-monitor-command", {"command-line": "gpa2hva 0x0"})
        return f"Host virtual address for 0x0 (ram0) is {self.address:#x}\r\n"

    def write(self, page: int, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{page} {text}\n")
        self.process.stdin.flush()
        assert self._line() == "written\n"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> None:
        with self.process:
            self.process.kill()


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A template whose RAM has data in three pages, and holes."""
    folder = tmp_path / "template"
    folder.mkdir()
    (folder / "state").write_bytes(STATE)
    with (folder / "ram").open("wb") as file:
        for page in (0, 100, PAGES - 1):
            file.seek(page * PAGE)
            file.write(b"template".ljust(PAGE, b"."))
    return folder / "ram"


@pytest.fixture
def fork(template: Path) -> Iterator[Fork]:
    process = Fork(str(template))
    yield process
    process.end()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The empty RAM file of a twin."""
    path = tmp_path / "ram"
    path.touch()
    os.truncate(path, SIZE)
    return path


def memory_of(fork: Fork, copy: Path) -> MemoryCopy:
    return MemoryCopy(fork.process.pid, [(0, str(copy))])


def test_a_copy_is_the_file_of_the_template_with_the_pages_of_the_fork(
    fork: Fork, template: Path, copy: Path
) -> None:
    memory = memory_of(fork, copy)
    for page in (1, 100, 103, 300):
        fork.write(page, f"before-{page}")
    memory.copy(fork)
    fork.write(103, "after")
    fork.write(400, "after")
    memory.complete()
    expected = bytearray(template.read_bytes())
    texts = {1: "before-1", 100: "before-100", 103: "aftere-103", 300: "before-300", 400: "after"}
    for page, text in texts.items():
        expected[page * PAGE : page * PAGE + len(text)] = text.encode()
    assert copy.read_bytes() == bytes(expected)


def test_a_copy_is_sparse(fork: Fork, copy: Path) -> None:
    fork.write(200, "one")
    memory_of(fork, copy).copy(fork)
    assert copy.stat().st_blocks * 512 <= 16 * PAGE


@pytest.mark.parametrize("number", memory_copy.NO_COPY)
def test_memory_is_copied_to_another_file_system(
    fork: Fork, template: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_arguments: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    memory_of(fork, copy).copy(fork)
    assert copy.read_bytes() == template.read_bytes()
    assert copy.stat().st_blocks * 512 <= 16 * PAGE


def test_an_error_of_the_disk_is_reported(
    fork: Fork, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", fail)
    with pytest.raises(OSError, match="No space"):
        memory_of(fork, copy).copy(fork)


def test_the_template_stays_unchanged(fork: Fork, template: Path, copy: Path) -> None:
    before = template.read_bytes()
    fork.write(0, "fork")
    memory = memory_of(fork, copy)
    memory.copy(fork)
    memory.complete()
    assert template.read_bytes() == before


def test_large_private_memory_is_refused(fork: Fork, copy: Path) -> None:
    for page in range(10):
        fork.write(page, "private")
    memory_of(fork, copy).copy(fork, 10 * PAGE)
    with pytest.raises(UnsuitableMemory, match="large"):
        memory_of(fork, copy).copy(fork, 9 * PAGE)


def test_memory_of_a_booted_host_is_refused(copy: Path) -> None:
    host = Fork("")
    with pytest.raises(UnsuitableMemory, match="not the memory of a fork"):
        memory_of(host, copy).copy(host)
    host.end()


def test_shared_memory_is_refused(template: Path, copy: Path) -> None:
    machine = Fork(str(template), share=True)
    with pytest.raises(UnsuitableMemory, match="shared"):
        memory_of(machine, copy).copy(machine)
    machine.end()


def test_a_replaced_file_is_refused(fork: Fork, template: Path, copy: Path) -> None:
    template.unlink()
    template.write_bytes(b"another")
    with pytest.raises(UnsuitableMemory):
        memory_of(fork, copy).copy(fork)


def test_memory_of_a_process_that_ended_is_refused(fork: Fork, copy: Path) -> None:
    memory = memory_of(fork, copy)
    fork.end()
    with pytest.raises(UnsuitableMemory):
        memory.copy(fork)


def test_an_unknown_address_is_refused(fork: Fork, copy: Path) -> None:
    with pytest.raises(UnsuitableMemory, match="address"):
        memory_of(fork, copy).copy(lambda *_words, **_arguments: "No memory is mapped")


def test_memory_that_is_not_mapped_is_refused(fork: Fork, copy: Path) -> None:
    fork.address = PAGE
    with pytest.raises(UnsuitableMemory, match="not mapped"):
        memory_of(fork, copy).copy(fork)


def test_a_state_has_the_memory_of_the_template_and_the_devices_of_the_fork(
    fork: Fork, copy: Path
) -> None:
    memory = memory_of(fork, copy)
    memory.copy(fork)
    firmware = STATE[: STATE.index(b"\4\0\0\0\5")]
    assert memory.join(DEVICES) == firmware + DEVICES[8:] + memory_copy.DESCRIPTION


@pytest.mark.parametrize(
    "devices",
    [DEVICES.replace(b"\0\3", b"\0\4"), DEVICES.replace(b"\4", b"\7"), DEVICES.replace(b"t", b"u")],
)
def test_a_state_of_another_format_is_refused(fork: Fork, copy: Path, devices: bytes) -> None:
    memory = memory_of(fork, copy)
    memory.copy(fork)
    with pytest.raises(UnsuitableMemory, match="format"):
        memory.join(devices)


def test_swapped_and_shared_pages_are_told_apart() -> None:
    present, swapped, of_file = 1 << 7, 1 << 6, 1 << 5
    states = bytes([0, present, swapped, present | of_file, swapped | of_file])
    assert states.translate(memory_copy.PRIVATE) == b"\0\1\1\0\0"
    assert [run.span() for run in re.finditer(memory_copy.RUN, b"\1\0\1" + bytes(9) + b"\1")] == [
        (0, 3),
        (12, 13),
    ]
