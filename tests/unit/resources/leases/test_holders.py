# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases belong to one holder, by the exact name and by what the holder requested."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stockyard import FleetSpec, LeaseSpec, Yard
from stockyard.resources.leases import lease_lifecycle
from tests.helpers.clocks import FakeClock
from tests.helpers.values import present

ASKED = LeaseSpec("me", "ci", duration=600.0)


@pytest.fixture
def fleet(yard: Yard) -> Yard:
    """A yard with two hosts."""
    yard.fleets.apply(FleetSpec("ci", "base", count=2))
    return yard


def test_lease_belongs_to_its_holder_alone(fleet: Yard, clock: FakeClock) -> None:
    """By fleet, tenant, labels and pool of the request, and by the exact name of the holder."""
    lease = fleet.leases.acquire("ci", holder="me", duration=600)
    context = fleet.context
    observation = context.provider.observe("stockyard")
    record = present(lease_lifecycle.held_by(context, ASKED, observation))
    assert record.name == lease.host
    for request in (
        replace(ASKED, holder="you"),
        replace(ASKED, holder="me2"),
        replace(ASKED, holder="m"),
        replace(ASKED, holder="ME"),
        replace(ASKED, fleet="other"),
        replace(ASKED, tenant="other"),
        replace(ASKED, labels={"a": "b"}),
        replace(ASKED, pool="gold"),
    ):
        assert lease_lifecycle.held_by(context, request, observation) is None
    clock.time += 601
    assert lease_lifecycle.held_by(context, ASKED, observation) is None


def test_longest_lease_of_a_holder_is_the_present_one(fleet: Yard) -> None:
    durations = (600, 1200)
    leases = [fleet.leases.acquire("ci", holder="me", duration=length) for length in durations]
    observation = fleet.context.provider.observe("stockyard")
    record = present(lease_lifecycle.held_by(fleet.context, ASKED, observation))
    assert record.name == leases[1].host


def test_holder_cannot_use_the_lease_of_another(fleet: Yard) -> None:
    own_lease = fleet.leases.ensure(LeaseSpec("me", "ci", duration=600.0)).object
    foreign_lease = fleet.leases.ensure(LeaseSpec("you", "ci", duration=600.0)).object
    assert own_lease.host != foreign_lease.host
    assert fleet.leases.ensure(LeaseSpec("me", "ci", duration=600.0)).object.id == own_lease.id
    fleet.leases.release_held(LeaseSpec("me", "ci"))
    assert [lease.id for lease in fleet.leases.list()] == [foreign_lease.id]
