# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a memory hypervisor: shared, whole, and left alone when it cannot be read."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stockyard.errors import HypervisorError
from stockyard.providers.memory import journal
from stockyard.providers.memory.state import Machine, StateFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hypervisor"


def put(file: StateFile, name: str, machine: Machine | None) -> None:
    with file.change() as machines:
        if machine:
            machines[name] = machine
        else:
            del machines[name]


def test_a_missing_file_is_an_empty_hypervisor_and_reading_makes_none(path: Path) -> None:
    assert StateFile(path).read() == {}
    with StateFile(path).change():
        pass
    assert not path.exists()


def test_state_of_one_writer_is_read_by_others(path: Path) -> None:
    first, second = StateFile(path), StateFile(path)
    put(first, "a", Machine("A"))
    assert second.read() == {"a": Machine("A")}
    put(second, "b", Machine("B", "running", True, "t"))
    put(first, "a", Machine("A", "off"))
    assert (
        first.read()
        == second.read()
        == StateFile(path).read()
        == {"b": Machine("B", "running", True, "t"), "a": Machine("A")}
    )
    put(second, "b", None)
    assert first.read() == {"a": Machine("A")}


def test_a_change_that_fails_changes_nothing(path: Path) -> None:
    file = StateFile(path)
    put(file, "a", Machine("A"))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="stop"):
        change_and_fail(file)
    assert path.read_bytes() == before
    assert file.read() == {"a": Machine("A")}


def change_and_fail(file: StateFile) -> None:
    with file.change() as machines:
        machines["b"] = Machine("B")
        raise ValueError("stop")


def test_snapshot_of_a_reader_does_not_change(path: Path) -> None:
    file = StateFile(path)
    put(file, "a", Machine("A"))
    before = file.read()
    put(file, "b", Machine("B"))
    assert set(before) == {"a"}


def test_many_writers_lose_nothing(path: Path) -> None:
    def write(number: int) -> None:
        file = StateFile(path)
        for step in range(10):
            put(file, f"{number}-{step}", Machine("x"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(StateFile(path).read()) == 80


def test_state_file_is_compacted(path: Path) -> None:
    file, second = StateFile(path), StateFile(path)
    for number in range(journal.SPARE_LINES * 3):
        put(file, "a", Machine(f"A{number}"))
        if number % 50 == 0:
            second.read()
    assert len(path.read_text().splitlines()) < journal.SPARE_LINES + 10
    assert second.read() == {"a": Machine(f"A{number}")}


def test_partial_last_line_is_ignored(path: Path) -> None:
    file, reader = StateFile(path), StateFile(path)
    put(file, "a", Machine("A"))
    reader.read()
    with path.open("ab") as handle:
        handle.write(b'["b", {"record": "B' + b"B" * 5000)
    assert reader.read() == StateFile(path).read() == {"a": Machine("A")}
    put(reader, "c", Machine("C"))
    assert file.read() == StateFile(path).read() == {"a": Machine("A"), "c": Machine("C")}


EDITS: dict[str, Callable[[str], str]] = {
    "longer in front": lambda text: text.replace('"A"', '"A longer one"'),
    "of the same length": lambda text: text.replace('"A"', '"X"'),
    "shorter": lambda text: "\n".join(text.splitlines()[:-1]) + "\n",
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_the_file_in_its_place_is_seen(path: Path, edit: str) -> None:
    file = StateFile(path)
    put(file, "a", Machine("A"))
    put(file, "b", Machine("B"))
    file.read()
    path.write_text(EDITS[edit](path.read_text()))
    os.utime(path, ns=(1, 1))
    assert file.read() == StateFile(path).read()
    assert file.read() != {"a": Machine("A"), "b": Machine("B")}


def test_a_file_that_was_removed_is_an_empty_hypervisor_again(path: Path) -> None:
    file = StateFile(path)
    put(file, "a", Machine("A"))
    path.unlink()
    assert file.read() == {}
    put(file, "b", Machine("B"))
    assert StateFile(path).read() == {"b": Machine("B")}


HEAD = journal.HEADER.decode()
UNREADABLE = {
    "empty": "",
    "garbage": "garbage\n",
    "json of another kind": "{}\n",
    "the file is not the state of a memory hypervisor of this version": HEAD.replace("1]", "2]"),
    "no whole first line": HEAD.rstrip("\n"),
    "garbage in between": HEAD + "garbage\n" + '["a",{"record":"A"}]\n',
    "a line is not an entry": HEAD + "[1,2,3]\n",
    "no name": HEAD + '[5,{"record":"A"}]\n',
    "no machine": HEAD + '["a",5]\n',
    "an unknown field": HEAD + '["a",{"record":"A","x":1}]\n',
    "a wrong type": HEAD + '["a",{"record":"A","link":"up"}]\n',
    "nested too deep": HEAD + "[" * 100_000 + "\n",
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_file_is_an_error_and_unchanged(path: Path, case: str) -> None:
    path.write_text(UNREADABLE[case])
    file = StateFile(path)
    for _number in range(2):
        with pytest.raises(
            HypervisorError, match="the state file cannot be read; nothing was changed"
        ):
            file.read()
        with pytest.raises(HypervisorError), file.change() as machines:
            machines["b"] = Machine("B")
    assert path.read_text() == UNREADABLE[case]


def test_repaired_file_is_read_again(path: Path) -> None:
    file = StateFile(path)
    put(file, "a", Machine("A"))
    whole = path.read_text()
    path.write_text(whole + "garbage\n")
    with pytest.raises(HypervisorError):
        file.read()
    path.write_text(whole)
    assert file.read() == {"a": Machine("A")}


def test_a_directory_in_its_place_is_an_error(path: Path) -> None:
    path.mkdir()
    with pytest.raises(HypervisorError, match="the state file cannot be read; nothing was changed"):
        StateFile(path).read()


def test_each_record_is_one_line(path: Path) -> None:
    odd = 'a\nb\u2028c\r"\\ü\0'
    put(StateFile(path), odd, Machine(odd))
    assert StateFile(path).read() == {odd: Machine(odd)}
    assert [json.loads(line)[0] for line in path.read_bytes().splitlines()[1:]] == [odd]
