# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Package versions, as Debian orders them."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard.model.versions import MissingUpdate, later, missing_updates

# Each is later than the one before it.
RISING = [
    "0~~",
    "0~",
    "0",
    "0.1~rc1-1",
    "0.1",
    "0.1-1",
    "0.1-1+deb12u1",
    "0.1-1+deb12u2",
    "0.1-1+deb12u10",
    "0.1a",
    "0.1+",
    "0.2",
    "0.10",
    "1.0-2",
    "1:0.1",
    "2:0",
]


def test_versions_are_ordered_as_in_debian_policy() -> None:
    for number, low in enumerate(RISING):
        for high in RISING[number + 1 :]:
            assert later(high, low), (high, low)
            assert not later(low, high), (high, low)


@pytest.mark.parametrize(("first", "second"), [("1.0", "1.00"), ("0:1", "1"), ("1-0", "1")])
def test_versions_that_are_written_differently_and_equal(first: str, second: str) -> None:
    assert not later(first, second)
    assert not later(second, first)


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg is not here to ask")
@given(*[st.from_regex(r"[0-9][0-9a-b.+~-]{0,6}[0-9]", fullmatch=True)] * 2)
def test_order_of_versions_is_that_of_dpkg(first: str, second: str) -> None:
    result = subprocess.run(
        ["dpkg", "--compare-versions", first, "gt", second], check=False, capture_output=True
    )
    assert later(first, second) == (result.returncode == 0)


@given(st.text(), st.text())
def test_order_of_versions_is_antisymmetric(first: str, second: str) -> None:
    assert not (later(first, second) and later(second, first))


def test_image_lacks_packages_that_are_later_or_new() -> None:
    installed = {"a": "1", "b": "2", "c": "3", "gone": "1"}
    assert missing_updates(installed, {"a": "1", "b": "1", "c": "3.1", "new": "1"}) == (
        MissingUpdate("c", "3", "3.1"),
        MissingUpdate("new", "", "1"),
    )
    assert [str(b) for b in missing_updates(installed, {"c": "4", "d": "1"})] == [
        "c 3 -> 4",
        "d (none) -> 1",
    ]
