# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of locks: who holds a name, until when, and who is known to be dead."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard.providers.vsphere.locks import (
    Entry,
    alive,
    anyone,
    is_dead,
    key_of,
    read,
    whereabouts,
    write,
)

HERE = "/nowhere"


def test_an_entry_holds_until_its_time_is_over() -> None:
    value = write(Entry("t", 100.0, "another machine entirely"))
    assert read(value) == Entry("t", 100.0, "another machine entirely")
    assert alive(value, 99.0)
    assert not alive(value, 100.0)


@given(
    st.none()
    | st.text()
    | st.sampled_from(["[]", "[1]", '["t","x","w"]', "{}", "null", "[" * 5000, '["t",NaN,"w"]'])
)
def test_value_that_is_no_lock_entry_locks_nothing(value: str | None) -> None:
    assert read(value) is None
    assert not alive(value, 0.0)


def test_this_process_lives() -> None:
    assert not is_dead(whereabouts())
    assert alive(write(Entry("t", 10.0, whereabouts())), 5.0)


def test_a_process_of_this_machine_that_ended_holds_nothing() -> None:
    code = "from stockyard.providers.vsphere.locks import whereabouts; print(whereabouts())"
    where = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert len(where.split(" ")) == 4
    assert is_dead(where)
    assert not alive(write(Entry("t", 10.0, where)), 5.0)


def test_a_number_that_was_given_again_is_another_process() -> None:
    boot, space, pid, started = whereabouts().split(" ")
    assert is_dead(f"{boot} {space} {pid} {int(started) - 1}")


@pytest.mark.parametrize("part", [0, 1])
def test_of_a_process_elsewhere_nothing_is_known(part: int) -> None:
    words = whereabouts().split(" ")
    words[part] += "x"
    words[2], words[3] = "999999999", "1"
    assert not is_dead(" ".join(words))


@pytest.mark.parametrize("where", ["", "x", "a b c d e"])
def test_of_nonsense_nothing_is_known(where: str) -> None:
    assert not is_dead(where)


def test_names_have_keys_of_one_length() -> None:
    keys = {key_of("a" * n) for n in (1, 63, 263, 264)}
    assert len(keys) == 4
    assert len({len(k) for k in keys}) == 1


def test_anyone_is_any_lock_and_nothing_else() -> None:
    held = {key_of("x"): write(Entry("t", 10.0, ""))}
    assert anyone(held, 5.0)
    assert not anyone(held, 15.0)
    assert not anyone({"stockyard.host.x": write(Entry("t", 10.0, ""))}, 5.0)
