# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deadlines: passed down, never renewed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard.clock import Deadline, SystemClock
from stockyard.errors import DeadlineExceeded
from tests.helpers.clocks import FakeClock


def test_a_deadline_passes() -> None:
    clock = FakeClock()
    deadline = Deadline(5, clock)
    assert not deadline.passed()
    deadline.check("the work")
    clock.sleep(5)
    assert deadline.passed()
    assert deadline.left() == 0
    with pytest.raises(DeadlineExceeded, match=r"the work took longer than 5 s"):
        deadline.check("the work", name="host a")
    clock.sleep(5)
    assert deadline.left() == 0


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_step_never_has_more_time_than_the_whole(whole: int, step: int, elapsed: int) -> None:
    clock = FakeClock(0)
    deadline = Deadline(whole, clock)
    clock.sleep(elapsed)
    assert deadline.within(step).left() <= deadline.left()
    assert deadline.within(step).left() <= step


def test_pause_ends_at_the_deadline() -> None:
    clock = FakeClock()
    deadline = Deadline(1, clock)
    for _number in range(3):
        deadline.pause(0.75)
    assert clock.slept == [0.75, 0.25, 0]


def test_no_time_at_all_has_passed() -> None:
    assert Deadline(0).passed()
    assert Deadline(-1).left() == 0


def test_the_machines_own_clock() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    clock.sleep(0.001)
    assert clock.monotonic() > before
    assert clock.now() > 1_700_000_000
