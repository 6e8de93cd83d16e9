# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shares of a fleet: every host is somewhere, and nowhere twice."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import FleetSpec, Hypervisor, InvalidInput
from stockyard.model.placements import HYPERVISOR_STATES, PLACEMENTS, dealt, shares
from stockyard.planning.fleets import plan_fleet
from tests.helpers.samples import HOSTILE

SITES = st.lists(
    st.builds(
        Hypervisor,
        st.sampled_from("abcdef"),
        st.sampled_from(HYPERVISOR_STATES),
        st.none() | st.integers(0, 9),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda h: h.name,
)
PLACED = st.sampled_from(PLACEMENTS)
COUNTS = st.integers(0, 40)


def room(sites: list[Hypervisor], count: int) -> int:
    return sum(count if h.max is None else min(h.max, count) for h in sites if h.state == "active")


@given(SITES, PLACED, COUNTS)
def test_each_host_is_placed_and_none_on_a_full_hypervisor(
    sites: list[Hypervisor], how: str, count: int
) -> None:
    if room(sites, count) < count:
        with pytest.raises(InvalidInput):
            shares(sites, how, count)
        return
    counts = shares(sites, how, count)
    assert sum(counts.values()) == count
    assert list(counts) == [h.name for h in sites]
    for site in sites:
        assert counts[site.name] <= (count if site.max is None else site.max)
        assert site.state == "active" or counts[site.name] == 0


@given(SITES, COUNTS)
def test_spread_is_even_within_the_capacities(sites: list[Hypervisor], count: int) -> None:
    if room(sites, count) >= count:
        counts = shares(sites, "spread", count)
        largest = max(counts.values())
        for site in sites:
            full = site.state != "active" or counts[site.name] == site.max
            assert full or counts[site.name] >= largest - 1


@given(SITES, COUNTS)
def test_pack_fills_one_before_the_next(sites: list[Hypervisor], count: int) -> None:
    if room(sites, count) >= count:
        counts = shares(sites, "pack", count)
        used = [h for h in sites if counts[h.name]]
        assert all(counts[h.name] == h.max for h in used[:-1])
        active = [h for h in sites if h.state == "active" and h.max != 0]
        assert used == active[: len(used)]


@given(SITES, PLACED, st.lists(st.integers(0, 99).map(lambda n: f"n{n}"), unique=True, max_size=12))
def test_every_name_is_dealt_once(sites: list[Hypervisor], how: str, names: list[str]) -> None:
    if room(sites, len(names)) >= len(names):
        assert list(chain.from_iterable(dealt(names, sites, how, h.name) for h in sites)) == names


@given(SITES, PLACED, COUNTS)
def test_share_of_a_silent_hypervisor_does_not_move(
    sites: list[Hypervisor], how: str, count: int
) -> None:
    """The declaration alone decides: what is not said changes nothing, and what is said moves one
    share.
    """
    if room(sites, count) < count:
        return
    first = sites[0]
    dead = [replace(first, state="dead"), *sites[1:]]
    if room(dead, count) >= count:
        after = shares(dead, how, count)
        assert after[first.name] == 0
        assert all(after[h.name] >= shares(sites, how, count)[h.name] for h in sites[1:])


def fleet(count: int = 5, local_hypervisor: str = "a", **options: Any) -> FleetSpec:
    return FleetSpec(
        "ci",
        "base",
        count=count,
        hypervisors=(Hypervisor("a"), Hypervisor("b")),
        local_hypervisor=local_hypervisor,
        **options,
    )


def test_each_run_plans_its_own_share_under_names_of_its_own() -> None:
    plans = {
        hypervisor: plan_fleet(fleet(local_hypervisor=hypervisor), "g" * 64, [])
        for hypervisor in "ab"
    }
    assert [a.name for a in plans["a"].actions] == ["ci-a-1", "ci-a-2", "ci-a-3"]
    assert [a.name for a in plans["b"].actions] == ["ci-b-1", "ci-b-2"]


def test_names_are_dealt_out() -> None:
    named: dict[str, Any] = {"count": 3, "names": ("x", "y", "z")}
    assert [
        a.name for a in plan_fleet(fleet(local_hypervisor="a", **named), "g" * 64, []).actions
    ] == [
        "x",
        "y",
    ]
    assert [
        a.name for a in plan_fleet(fleet(local_hypervisor="b", **named), "g" * 64, []).actions
    ] == ["z"]


@pytest.mark.parametrize("name", [*HOSTILE, "a" * 17])
def test_a_hostile_hypervisor_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        Hypervisor(name)


@pytest.mark.parametrize(
    "options",
    [
        {"local_hypervisor": "c"},
        {"local_hypervisor": ""},
        {"placement": "pile"},
        {"hypervisors": (Hypervisor("a"), Hypervisor("a"))},
        {"hypervisors": (Hypervisor("a", max=2), Hypervisor("b", max=2))},
        {"hypervisors": (Hypervisor("a", "dead"), Hypervisor("b", "evacuated"))},
    ],
)
def test_a_list_that_does_not_fit_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        FleetSpec(**{**vars(fleet()), **options})


@pytest.mark.parametrize("options", [{"state": "tired"}, {"max": -1}, {"max": True}])
def test_a_hypervisor_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Hypervisor("a", **options)
