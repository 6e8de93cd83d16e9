# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's passes over a yard: spares, expired hosts, incomplete hosts, waiting requests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stockyard import (
    FleetSpec,
    HypervisorError,
    LeaseSpec,
    PoolSpec,
    StockyardError,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.model.fleet_terms import FleetTerms
from stockyard.model.host import HostRecord
from stockyard.model.service import ServiceSpec
from stockyard.providers.open import open_provider
from stockyard.resources.leases import waiting
from stockyard.service.keeper import Keeper
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider

FLEET = FleetSpec("ci", "base", count=1, min_ready=2, max=5)


@pytest.fixture
def keeper(yard: Yard) -> Keeper:
    """The keeper of a yard with a fleet of two spare hosts."""
    yard.fleets.apply(FLEET)
    return Keeper(yard.context, ServiceSpec())


def records(yard: Yard) -> list[HostRecord]:
    hosts = yard.context.provider.observe("stockyard").hosts
    return sorted((host.record for host in hosts), key=lambda record: record.name)


def names(yard: Yard) -> list[str]:
    return [record.name for record in records(yard)]


@pytest.mark.parametrize(
    ("declared_fleet", "terms"),
    [
        (FLEET, FleetTerms(1, 2)),
        (FleetSpec("ci", "base", count=2, suspend_after=600.0), FleetTerms(2, 0, 600.0)),
        (FleetSpec("ci", "base", names=("red",)), None),
    ],
)
def test_terms_of_a_fleet_are_on_its_records(
    yard: Yard, declared_fleet: FleetSpec, terms: FleetTerms | None
) -> None:
    yard.fleets.apply(declared_fleet)
    assert {record.fleet_terms for record in records(yard)} == {terms}


def test_changed_terms_apply_to_hosts_that_exist(keeper: Keeper, yard: Yard) -> None:
    yard.fleets.apply(replace(FLEET, min_ready=1, count=2))
    assert {record.fleet_terms for record in records(yard)} == {FleetTerms(2, 1)}
    keeper.run_pass()
    assert len(names(yard)) == 2


def test_fleet_in_order_is_not_changed(
    keeper: Keeper, yard: Yard, hypervisor: FaultyProvider
) -> None:
    before = records(yard)
    assert keeper.run_pass() == 10.0
    assert records(yard) == before


def test_spares_are_created_for_leased_hosts(keeper: Keeper, yard: Yard) -> None:
    yard.leases.acquire("ci", holder="me")
    keeper.run_pass()
    assert names(yard) == ["ci-1", "ci-2", "ci-3"]
    for number in range(3):
        yard.leases.acquire("ci", holder=f"job-{number}", wait=30)
    keeper.run_pass()
    # The largest size of the fleet limits the spares.
    assert len(names(yard)) == 5


def test_quota_of_the_pool_limits_the_spares(yard: Yard) -> None:
    yard.pools.apply(PoolSpec("small", hosts=2))
    spec = replace(FLEET, host=replace(FLEET.host, pool="small"))
    yard.fleets.apply(spec)
    yard.leases.acquire("ci", holder="me")
    Keeper(yard.context, ServiceSpec()).run_pass()
    assert len(names(yard)) == 2


def test_host_of_an_expired_lease_is_replaced(keeper: Keeper, yard: Yard, clock: FakeClock) -> None:
    lease = yard.leases.acquire("ci", holder="me", duration=5)
    keeper.run_pass()
    old_uuid = next(record.uuid for record in records(yard) if record.name == lease.host)
    pause = keeper.run_pass()
    assert 0 < pause <= 5
    clock.time += pause
    keeper.run_pass()
    assert old_uuid not in {record.uuid for record in records(yard)}
    assert len(names(yard)) >= 2
    assert yard.leases.list() == ()


def test_only_host_of_a_fleet_is_replaced_after_its_lease(
    yard: Yard, clock: FakeClock, hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FleetSpec("ci", "base", count=1, max=1))
    keeper = Keeper(yard.context, ServiceSpec())
    yard.leases.acquire("ci", holder="me", duration=60)
    keeper.run_pass()
    clock.time += 61
    hypervisor.fail("fork", HypervisorError("no memory is left."))
    keeper.run_pass()
    assert names(yard) == []
    clock.time += 10
    keeper.run_pass()
    assert names(yard) == ["ci-1"]


def test_deleted_fleet_is_not_created_again(keeper: Keeper, yard: Yard) -> None:
    keeper.run_pass()
    yard.teardown()
    keeper.run_pass()
    assert names(yard) == []


def test_incomplete_host_is_replaced(
    keeper: Keeper, yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.leases.acquire("ci", holder="me")
    hypervisor.fail("fork", KeyboardInterrupt())
    hypervisor.fail("destroy", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        yard.fleets.apply(FLEET)
    assert "creating" in {record.phase for record in records(yard)}
    keeper.run_pass()
    assert [record.phase for record in records(yard)] == ["ready"] * 3


def test_fleet_with_incomplete_hosts_only_is_completed(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    hypervisor.fail("fork", KeyboardInterrupt())
    hypervisor.fail("destroy", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        yard.fleets.apply(FleetSpec("ci", "base", count=1))
    assert [record.phase for record in records(yard)] == ["creating"]
    Keeper(yard.context, ServiceSpec()).run_pass()
    assert [record.phase for record in records(yard)] == ["ready"]


def test_failed_creation_is_a_problem_of_the_pass(
    keeper: Keeper, yard: Yard, hypervisor: FaultyProvider, clock: FakeClock
) -> None:
    yard.leases.acquire("ci", holder="me")
    hypervisor.fail("fork", HypervisorError("no memory is left."))
    keeper.run_pass()
    (problem,) = keeper.problems
    assert problem.startswith("fleet ci: no host was created: ")
    assert "no memory is left" in problem
    clock.time += 10
    keeper.run_pass()
    assert keeper.problems == []


def test_full_fleet_is_no_problem(keeper: Keeper, yard: Yard) -> None:
    for number in range(5):
        yard.leases.acquire("ci", holder=f"job-{number}", wait=30)
    keeper.run_pass()
    assert keeper.problems == []


def test_host_without_a_fleet_is_reaped_at_its_end(
    keeper: Keeper, yard: Yard, clock: FakeClock
) -> None:
    yard.fleets.apply(FleetSpec("old", "base", names=("red",), ttl=60.0))
    keeper.run_pass()
    clock.time += 61
    keeper.run_pass()
    assert "red" not in names(yard)


def test_hosts_are_created_for_requests_that_wait(keeper: Keeper, yard: Yard) -> None:
    queues = yard.context.provider.queues
    queue = waiting.queue_of(yard.context, LeaseSpec("me", "ci"))
    deadline = Deadline(600, yard.context.clock)
    with queues.join(queue, deadline), queues.join(queue, deadline), queues.join(queue, deadline):
        keeper.run_pass()
    assert len(names(yard)) == 3


def test_two_keepers_create_no_host_too_many(keeper: Keeper, yard: Yard) -> None:
    other_keeper = Keeper(yard.context, ServiceSpec())
    yard.leases.acquire("ci", holder="me")
    with yard.context.provider.exclusive(
        yard.context.lock_name("fleet", "default", "ci"), Deadline(5, yard.context.clock)
    ):
        other_keeper.run_pass()
        assert len(names(yard)) == 2
    keeper.run_pass()
    other_keeper.run_pass()
    assert len(names(yard)) == 3


def test_failed_step_does_not_prevent_the_others(
    keeper: Keeper, yard: Yard, hypervisor: FaultyProvider, clock: FakeClock
) -> None:
    yard.fleets.apply(FleetSpec("old", "base", names=("red",), ttl=60.0))
    yard.leases.acquire("ci", holder="me")
    clock.time += 61
    hypervisor.fail("destroy", HypervisorError("the disk is busy."))
    with pytest.raises(StockyardError, match="the disk is busy"):
        keeper.run_pass()
    assert len([name for name in names(yard) if name != "red"]) == 3
    keeper.run_pass()
    assert "red" not in names(yard)


def test_hosts_are_created_on_a_new_connection(
    keeper: Keeper, yard: Yard, uri: str, hypervisor: FaultyProvider
) -> None:
    keeper.run_pass()
    keeper.ctx = replace(yard.context, provider=open_provider(uri))
    yard.leases.acquire("ci", holder="me")
    hypervisor.calls.clear()
    keeper.run_pass()
    assert len(names(Yard(provider=keeper.ctx.provider))) == 3
    assert not hypervisor.calls


def test_idle_hosts_are_suspended_by_the_terms_on_record(
    yard: Yard, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.fleets.apply(FleetSpec("ci", "base", count=2, suspend_after=600.0))
    monkeypatch.setattr(
        "stockyard.resources.hosts.idleness.idle",
        lambda _ctx, _tenant, hosts, duration: list(hosts) if duration == 600.0 else [],
    )
    keeper = Keeper(yard.context, ServiceSpec())
    keeper.run_pass()
    assert {host.state for host in yard.hosts.list()} == {"suspended"}
    assert {record.idle for record in records(yard)} == {True}
    clock.time += 100
    keeper.run_pass()
    assert yard.leases.acquire("ci", holder="me").host


def test_locked_fleet_does_not_prevent_the_suspension_of_others(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        yard.fleets.apply(FleetSpec(name, "base", count=1, suspend_after=600.0))
    monkeypatch.setattr(
        "stockyard.resources.hosts.idleness.idle",
        lambda _ctx, _tenant, hosts, _duration: list(hosts),
    )
    lock = yard.context.lock_name("fleet", "default", "a")
    with yard.context.provider.exclusive(lock, Deadline(5, yard.context.clock)):
        Keeper(yard.context, ServiceSpec()).run_pass()
    assert {host.name: host.state for host in yard.hosts.list()} == {
        "a-1": "running",
        "b-1": "suspended",
    }


def test_failed_fleet_does_not_prevent_the_suspension_of_others(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        yard.fleets.apply(FleetSpec(name, "base", count=1, suspend_after=600.0))
    visited: list[str] = []

    def suspend_fleet(_ctx: object, _tenant: str, fleet: str, *_limits: object) -> None:
        visited.append(fleet)
        raise StockyardError(f"fleet {fleet} is broken.")

    monkeypatch.setattr("stockyard.resources.hosts.idle_suspension.suspend_fleet", suspend_fleet)
    with pytest.raises(StockyardError, match=r"fleet a is broken.*fleet b is broken"):
        Keeper(yard.context, ServiceSpec()).run_pass()
    assert visited == ["a", "b"]
