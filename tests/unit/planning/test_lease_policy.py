# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts are held, over and free, and what a fleet's plan makes of it."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import FleetSpec, HostSpec, LeaseSpec
from stockyard.model.host import Host, Identity
from stockyard.model.lease import Lease
from stockyard.planning import lease_policy
from stockyard.planning.fleets import plan_fleet
from tests.helpers.samples import HOST_KEY, host

NOW = 1000.0
GENERATION = "g1" * 32
IDENTITY = Identity("m", HOST_KEY, "1f", 2e9, authority="ca", leasable=True)


def lease(until: float = NOW + 1, holder: str = "me") -> Lease:
    return Lease(str(uuid.uuid4()), holder, NOW - 100, until, "1f")


def ready(name: str = "ci-1", **changes: Any) -> Host:
    return host(name=name, identity=IDENTITY, **changes)


counts = st.integers(0, 20)


@given(counts, counts, counts, counts)
def test_spares_are_created_up_to_the_maximum(count: int, spare: int, most: int, held: int) -> None:
    free = lease_policy.unleased(count, spare, most, held)
    if most:
        assert free + held <= max(most, held)
        assert free >= min(spare, max(0, most - held))
    else:
        assert free >= spare
        assert free + held >= count
    # No more than are asked for by anything.
    assert free + held <= max(count, spare + held)


@given(counts, counts)
def test_fleet_without_leases_has_the_declared_count(count: int, spare: int) -> None:
    assert lease_policy.unleased(count, spare, 0, 0) == max(count, spare)


def test_a_lease_outlasts_a_time_to_live() -> None:
    record = ready(lease=lease(), expires=NOW - 1).record
    assert lease_policy.is_held(record, NOW)
    assert lease_policy.deletion_reason(record, NOW) == ""
    assert lease_policy.deletion_reason(record, NOW + 1) == "its lease by me expired"
    assert lease_policy.deletion_reason(ready(expires=NOW).record, NOW) == "its time to live ended"
    assert lease_policy.deletion_reason(ready(expires=NOW + 1).record, NOW) == ""
    assert lease_policy.deletion_reason(ready().record, NOW) == ""


def test_host_in_deletion_cannot_be_leased() -> None:
    assert not lease_policy.is_held(ready(lease=lease(), phase="deleting").record, NOW)


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        (ready(), ""),
        (ready(state="off"), "it is off"),
        (ready(phase="creating"), "it is creating"),
        (ready(lease=lease()), "it is leased by me"),
        (ready(lease=lease(NOW)), "its lease by me expired"),
        (ready(expires=NOW), "its time to live ended"),
        (host(), "its certificate was made before leases existed: replace the host"),
    ],
)
def test_only_a_ready_host_without_lease_is_leased(candidate: Host, why: str) -> None:
    assert lease_policy.why_not(candidate, "ca", NOW) == why


def test_a_host_of_another_ca_is_not_leased() -> None:
    assert "it trusts a different CA" in lease_policy.why_not(ready(), "other", NOW)


def test_lease_matches_the_request() -> None:
    hosts = [
        ready("ci-1", labels={"a": "1", "b": "2"}),
        ready("web-1", fleet="web", labels={"a": "1"}),
        ready("alone", fleet="", labels={"a": "1"}),
        ready("ci-1", tenant="other", labels={"a": "1"}),
    ]

    def asked(**options: Any) -> list[tuple[str, str]]:
        return [
            (h.record.tenant, h.record.name)
            for h in lease_policy.asked_for(LeaseSpec("me", **options), hosts)
        ]

    assert asked(fleet="ci") == [("default", "ci-1")]
    assert asked(labels={"a": "1"}) == [("default", "ci-1"), ("default", "web-1")]
    assert asked(labels={"a": "1"}, tenant="other") == [("other", "ci-1")]
    assert asked(fleet="web", labels={"b": "2"}) == []


def test_newer_hosts_are_tried_first_and_those_alike_in_any_order() -> None:
    old = [ready(f"old-{n}", generation="old", created=1.0) for n in range(5)]
    new = [ready(f"new-{n}", generation="new", created=2.0) for n in range(5)]
    orders = {
        tuple(h.record.name for h in lease_policy.in_turn(old + new, str(n))) for n in range(20)
    }
    assert all(name.startswith("new") for order in orders for name in order[:5])
    assert len(orders) > 10


kinds = st.sampled_from(["free", "held", "over", "dead", "half", "old", "off"])


def made(number: int, kind: str) -> Host:
    name = f"ci-{number + 1}"
    return {
        "free": ready(name),
        "held": ready(name, lease=lease(), expires=NOW - 5),
        "over": ready(name, lease=lease(NOW)),
        "dead": ready(name, expires=NOW),
        "half": ready(name, phase="deleting", lease=lease()),
        "old": ready(name, generation="old"),
        "off": ready(name, state="off", lease=lease()),
    }[kind]


@given(st.lists(kinds, max_size=12), counts, counts, st.integers(0, 5))
def test_plan_keeps_leased_hosts_and_deletes_surplus_hosts(
    kinds_of_hosts: list[str], count: int, spare: int, room: int
) -> None:
    spec = FleetSpec(
        "ci", "base", count, min_ready=spare, max=max(count, spare) + room, host=HostSpec()
    )
    hosts = [made(number, kind) for number, kind in enumerate(kinds_of_hosts)]
    todo = plan_fleet(spec, GENERATION, hosts, now=NOW)
    kinds_of = {h.record.name: kind for h, kind in zip(hosts, kinds_of_hosts, strict=True)}
    verbs = Counter(action.verb for action in todo.actions)
    for action in todo.actions:
        kind = kinds_of.get(action.name, "")
        if kind in ("held", "off"):
            assert action.verb in ("start", "relabel", "renew"), action
    destroyed = {action.name for action in todo.actions if action.verb == "delete"}
    assert {n for n, kind in kinds_of.items() if kind in ("over", "dead", "half")} <= destroyed
    held = sum(kind in ("held", "off") for kind in kinds_of_hosts)
    total = len(hosts) - verbs["delete"] + verbs["create"]
    assert total == held + lease_policy.unleased(count, spare, spec.max, held)
    assert total <= max(spec.max, held)
    made_names = [action.name for action in todo.actions if action.verb == "create"]
    assert len(set(made_names)) == len(made_names)
    assert not set(made_names) & (kinds_of.keys() - destroyed)


def test_a_leased_host_is_not_replaced_when_its_fleet_changes() -> None:
    spec = FleetSpec("ci", "base", 2, labels={"new": "yes"})
    hosts = [ready("ci-1", lease=lease()), ready("ci-2")]
    todo = plan_fleet(spec, "another", hosts, now=NOW)
    assert [(a.verb, a.name) for a in todo.actions] == [
        ("relabel", "ci-1"),
        ("create", "ci-3"),
        ("delete", "ci-2"),
    ]
