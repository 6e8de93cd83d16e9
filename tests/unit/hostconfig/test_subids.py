# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Subordinate ids: no two ranges have an id in common, whatever was there before."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import InvalidInput, OperationRefused
from stockyard.hostconfig import subids
from stockyard.hostconfig.machine import Machine
from stockyard.hostconfig.subids import FILES, Wish, converge, plan, ranges

Put = Callable[[str, str], None]
USERS = st.sampled_from(["red", "blue", "green", "dockremap"])
WISHES = st.builds(
    Wish,
    USERS,
    st.integers(1, 200000),
    st.none() | st.integers(65536, 900000),
    st.sampled_from([True, True, False]),
)


def test_tenants_get_adjacent_ranges(machine: Machine) -> None:
    for user in ("red", "blue"):
        assert converge(machine, Wish(user), check=False).changed
    assert (
        machine.read(FILES[0]) == machine.read(FILES[1]) == "red:100000:65536\nblue:165536:65536\n"
    )
    assert not converge(machine, Wish("red"), check=False).changed


def test_check_mode_writes_nothing(machine: Machine) -> None:
    outcome = converge(machine, Wish("red"), check=True)
    assert outcome.changed
    assert outcome.range
    assert machine.read(FILES[0]) is None


def test_lines_of_other_users_are_unchanged(machine: Machine, put: Put) -> None:
    put(FILES[0], "# a comment\nme:100000:65536\nodd line\n1000:300000:10\n")
    converge(machine, Wish("red"), check=False)
    assert (
        machine.read(FILES[0])
        == "# a comment\nme:100000:65536\nodd line\n1000:300000:10\nred:165536:65536\n"
    )
    converge(machine, Wish("red", present=False), check=False)
    assert machine.read(FILES[0]) == "# a comment\nme:100000:65536\nodd line\n1000:300000:10\n"


def test_a_range_over_anothers_is_refused(machine: Machine, put: Put) -> None:
    put(FILES[1], "me:100000:65536\n")
    with pytest.raises(OperationRefused, match="me:100000:65536"):
        converge(machine, Wish("red", first=165535), check=False)
    assert converge(machine, Wish("red", first=165536), check=False).range


def test_subuid_and_subgid_are_equal(machine: Machine, put: Put) -> None:
    put(FILES[0], "red:200000:65536\n")
    converge(machine, Wish("red"), check=False)
    assert machine.read(FILES[1]) == "red:200000:65536\n"


@pytest.mark.parametrize(
    "wish",
    [
        {"user": "a:b"},
        {"user": "a\nb"},
        {"user": ""},
        {"user": "a", "count": 0},
        {"user": "a", "first": 0},
        {"user": "a", "first": 1 << 32},
        {"user": "a", "first": (1 << 32) - 10},
    ],
)
def test_bad_wishes_are_refused(wish: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        Wish(**wish)  # type: ignore[arg-type]


def test_a_full_house_is_refused() -> None:
    with pytest.raises(InvalidInput, match="more ids are not available"):
        plan(dict.fromkeys(FILES, f"me:{subids.LOW}:{subids.HIGH}\n"), Wish("red"))


@given(st.lists(WISHES, max_size=12))
def test_however_they_come_no_two_have_an_id_in_common(wishes: list[Wish]) -> None:
    texts = dict.fromkeys(FILES, "")
    for wish in wishes:
        try:
            outcome = plan(texts, wish)
        except (OperationRefused, InvalidInput):
            continue
        texts = outcome.after
        assert not plan(texts, wish).changed
    for text in texts.values():
        assert not [pair for pair in combinations(ranges(text), 2) if pair[0].overlaps(pair[1])]
    assert len(set(texts.values())) == 1


@given(st.text(max_size=300))
def test_existing_lines_are_kept(text: str) -> None:
    lines = [line for line in text.splitlines() if line.split(":")[0] != "red"]
    try:
        after = plan(dict.fromkeys(FILES, text), Wish("red")).after[FILES[0]]
    except InvalidInput:
        return
    assert after.splitlines()[: len(lines)] == lines
