# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet over several memory hypervisors: each run makes its own share and touches
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    Declaration,
    FleetSpec,
    FleetTerm,
    Hypervisor,
    TemplateSpec,
    TemplateTerm,
    Yard,
)


@pytest.fixture
def yards(tmp_path: Path) -> Iterator[dict[str, Yard]]:
    """Three hypervisors, and one set of keys."""
    opened_yards = {
        name: Yard(f"memory://{tmp_path}/{name}", pki_dir=str(tmp_path / "pki")) for name in "abc"
    }
    for yard in opened_yards.values():
        yard.templates.apply(TemplateSpec("base"))
    yield opened_yards
    for yard in opened_yards.values():
        yard.close()


def converge(yards: dict[str, Yard], *names: str, check: bool = False, **options: Any) -> list[str]:
    """Run on these hypervisors; returns what was done."""
    sites = options.pop("sites", "abc")
    every = tuple(s if isinstance(s, Hypervisor) else Hypervisor(s) for s in sites)
    spec = {"count": 6, "hypervisors": every, **options}
    results = [
        yards[name].fleets.apply(
            FleetSpec("ci", "base", local_hypervisor=name, **spec), check=check
        )
        for name in names or yards
    ]
    return [f"{a.verb} {a.name}" for result in results for a in result.plan.actions]


def hosts(yards: dict[str, Yard]) -> dict[str, list[str]]:
    return {name: [h.name for h in yard.hosts.list()] for name, yard in yards.items()}


def test_templates_are_frozen_from_the_same_image(yards: dict[str, Yard]) -> None:
    assert len({t.image for yard in yards.values() for t in yard.templates.list()}) == 1


def test_a_fleet_is_spread_and_left_alone(yards: dict[str, Yard]) -> None:
    assert len(converge(yards)) == 6
    assert hosts(yards) == {n: [f"ci-{n}-1", f"ci-{n}-2"] for n in "abc"}
    assert converge(yards) == []


def test_a_run_on_one_touches_no_other(yards: dict[str, Yard]) -> None:
    converge(yards, "b")
    assert hosts(yards) == {"a": [], "b": ["ci-b-1", "ci-b-2"], "c": []}
    converge(yards)
    before = hosts(yards)
    # A missing answer of c moves nothing.
    assert converge(yards, "a", "b") == []
    assert hosts(yards) == before


def test_share_of_a_lost_hypervisor_moves_on_request(yards: dict[str, Yard]) -> None:
    converge(yards)
    sites = ("a", "b", Hypervisor("c", "dead"))
    assert converge(yards, "a", "b", sites=sites) == ["create ci-a-3", "create ci-b-3"]
    assert hosts(yards)["c"] == ["ci-c-1", "ci-c-2"]
    # It comes back to life, and gives up what others have by now.
    assert converge(yards, "c", sites=sites) == ["delete ci-c-1", "delete ci-c-2"]
    assert converge(yards, sites=sites) == []


def test_a_living_one_is_evacuated_after_the_others_took_over(yards: dict[str, Yard]) -> None:
    converge(yards)
    remaining = (Hypervisor("a", "evacuated"), Hypervisor("b"), Hypervisor("c"))
    fleets = {
        n: FleetTerm(FleetSpec("ci", "base", count=6, local_hypervisor=n, hypervisors=remaining))
        for n in "abc"
    }

    def site(name: str, evacuate: bool) -> list[str]:
        declared = Declaration(
            (TemplateTerm(TemplateSpec("base")),), (fleets[name],), prune="yes", evacuate=evacuate
        )
        return [f"{a.verb} {a.name}" for a in yards[name].apply(declared).plan.actions]

    assert [site(name, evacuate=False) for name in "abc"] == [
        [],
        ["create ci-b-3"],
        ["create ci-c-3"],
    ]
    assert sum(map(len, hosts(yards).values())) == 8
    assert site("a", evacuate=True) == ["delete ci-a-1", "delete ci-a-2"]
    assert [site(name, evacuate=True) for name in "abc"] == [[], [], []]


def test_packed_hosts_fill_one_before_the_next(yards: dict[str, Yard]) -> None:
    converge(yards, placement="pack", sites=(Hypervisor("a", max=4), "b", "c"))
    assert {n: len(h) for n, h in hosts(yards).items()} == {"a": 4, "b": 2, "c": 0}


def test_names_move_with_their_hypervisor(yards: dict[str, Yard]) -> None:
    named: dict[str, Any] = {"names": ("one", "two", "three", "four"), "count": 4}
    converge(yards, **named)
    assert hosts(yards) == {"a": ["one", "two"], "b": ["three"], "c": ["four"]}
    assert converge(yards, **named) == []


def test_a_template_that_changed_is_rolled_out_on_each(yards: dict[str, Yard]) -> None:
    converge(yards)
    for yard in yards.values():
        yard.templates.apply(TemplateSpec("base", docker="stopped"))
    assert converge(yards, "a", check=True) == [
        "create ci-a-3",
        "delete ci-a-1",
        "create ci-a-1",
        "delete ci-a-2",
    ]
    converge(yards)
    assert converge(yards) == []
