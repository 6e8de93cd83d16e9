# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host of a failed job, kept for a time."""

from __future__ import annotations

import pytest

from stockyard import FleetSpec, LeaseExpired, OperationRefused, OutOfSpace, Yard
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider

FLEET = FleetSpec("ci", "base", count=1)


def test_kept_host_is_deleted_in_time_and_not_before(yard: Yard, clock: FakeClock) -> None:
    yard.fleets.apply(FLEET)
    with yard.leases.acquire("ci", holder="job", duration=600) as held:
        kept_host = held.keep("2h")
    assert (kept_host.state, kept_host.name) == ("suspended", f"ci-1-kept-{held.id[:8]}")
    # The fleet creates another host, and leaves the kept one alone.
    yard.fleets.apply(FLEET)
    clock.sleep(7100)
    yard.reap()
    assert [host.name for host in yard.hosts.list()] == ["ci-1", kept_host.name]
    clock.sleep(200)
    yard.reap()
    assert [host.name for host in yard.hosts.list()] == ["ci-1"]


def test_earlier_state_is_not_reported_as_the_present_one(yard: Yard) -> None:
    yard.fleets.apply(FLEET)
    with yard.leases.acquire("ci", holder="job", duration=600) as held:
        kept_host = held.keep("2h")
        with pytest.raises(OperationRefused, match=kept_host.name):
            held.keep("2h")
        assert yard.hosts.get(kept_host.name) == kept_host


def test_host_of_an_expired_lease_is_not_kept(yard: Yard, clock: FakeClock) -> None:
    yard.fleets.apply(FLEET)
    held = yard.leases.acquire("ci", holder="job", duration=600)
    clock.sleep(700)
    with pytest.raises(LeaseExpired):
        held.keep("2h")


def test_host_that_fails_to_suspend_is_released(yard: Yard, hypervisor: FaultyProvider) -> None:
    yard.fleets.apply(FLEET)
    hypervisor.fail("check_suspend", OutOfSpace("full"))
    with (
        pytest.raises(OutOfSpace),
        yard.leases.acquire("ci", holder="job", duration=600) as held,
    ):
        held.keep("2h")
    assert not yard.hosts.list()
