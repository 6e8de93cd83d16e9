# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Subordinate ids: no two ranges have an id in common, whatever was there before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import InvalidInput, OperationRefused
from stockyard.hostconfig import subids
from stockyard.hostconfig.machine import Machine
from stockyard.hostconfig.subids import FILES, Range, Wish, converge, plan, ranges

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


@pytest.mark.parametrize(
    ("first", "allowed"),
    [
        (199900, True),  # ends where the other range begins
        (199901, False),
        (200000, False),
        (200099, False),
        (200100, True),  # begins where the other range ends
    ],
)
def test_ranges_may_touch_and_have_no_common_id(
    machine: Machine, put: Put, first: int, allowed: bool
) -> None:
    put(FILES[0], "me:200000:100\n")
    wish = Wish("red", 100, first)
    if allowed:
        assert converge(machine, wish, check=False).range == Range("red", first, 100)
    else:
        with pytest.raises(OperationRefused, match="would overlap with me:200000:100"):
            converge(machine, wish, check=False)


@pytest.mark.parametrize(("count", "first"), [(100, 100000), (101, 100300)])
def test_gap_is_used_if_the_range_fits(machine: Machine, put: Put, count: int, first: int) -> None:
    put(FILES[0], "me:100100:100\nyou:100200:100\n")
    assert converge(machine, Wish("red", count), check=False).range == Range("red", first, count)


@pytest.mark.parametrize("file", FILES)
def test_own_range_that_overlaps_another_users_is_replaced(
    machine: Machine, put: Put, file: str
) -> None:
    put(FILES[0], "red:100000:65536\n")
    put(FILES[1], "red:100000:65536\n")
    put(file, "red:100000:65536\nme:165535:10\n")
    assert converge(machine, Wish("red"), check=False).range == Range("red", 165545, 65536)
    assert "red:100000:65536" not in (machine.read(FILES[0]) or "") + (machine.read(FILES[1]) or "")


def test_files_are_changed_under_the_lock_of_shadow(machine: Machine) -> None:
    """usermod and useradd hold it while they write the same files."""
    path = machine.path(subids.LOCK)
    path.parent.mkdir(parents=True, exist_ok=True)
    script = (
        "import fcntl, sys\n"
        "handle = open(sys.argv[1], 'w')\n"
        "fcntl.lockf(handle, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OperationRefused, match="the user database is being changed"):
            converge(machine, Wish("red"), check=False)
        assert machine.read(FILES[0]) is None
        assert converge(machine, Wish("red"), check=True).changed
        holder.communicate()
    assert converge(machine, Wish("red"), check=False).changed


LINES = st.lists(
    st.tuples(USERS, st.integers(99990, 100100), st.integers(1, 30)).map(
        lambda line: f"{line[0]}:{line[1]}:{line[2]}"
    ),
    max_size=5,
).map(lambda lines: "".join(f"{line}\n" for line in lines))


def ids_of(texts: Iterable[str], user: str, *, own: bool) -> set[int]:
    """The ids of a user, or of all others, counted one by one."""
    return {
        number
        for text in texts
        for name, first, count in (line.split(":") for line in text.splitlines())
        if (name == user) is own
        for number in range(int(first), int(first) + int(count))
    }


@given(LINES, LINES, USERS, st.integers(1, 40), st.none() | st.integers(99990, 100120))
def test_new_range_has_no_id_of_another_user(
    uids: str, gids: str, user: str, count: int, first: int | None
) -> None:
    texts = dict(zip(FILES, (uids, gids), strict=True))
    foreign = ids_of(texts.values(), user, own=False)
    wish = Wish(user, count, first)
    requested = set(range(first, first + count)) if first is not None else set()
    try:
        after = plan(texts, wish).after
    except OperationRefused:
        assert requested & foreign
        return
    own = ids_of(after.values(), user, own=True)
    assert len(own) == count
    assert not own & foreign
    assert ids_of(after.values(), user, own=False) == foreign
    assert not requested or own == requested


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
