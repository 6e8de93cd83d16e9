# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases that wait: hosts are created for them, and the first request gets the first host."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    Busy,
    FleetSpec,
    HostSpec,
    HypervisorError,
    LeaseSpec,
    NotFound,
    PoolSpec,
    TemplateSpec,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.model.host import HostRecord
from stockyard.resources.leases import waiting
from tests.helpers.clocks import BriskClock, FakeClock, QuickClock
from tests.helpers.faulty_provider import FaultyProvider

FLEET = FleetSpec("ci", "base", count=1, max=3)
REQUEST = LeaseSpec("me", "ci")


@pytest.fixture
def fleet(yard: Yard) -> Yard:
    """A fleet of one host, which can have three."""
    yard.fleets.apply(FLEET)
    return yard


def records(yard: Yard) -> list[HostRecord]:
    hosts = yard.context.provider.observe("stockyard").hosts
    return sorted((host.record for host in hosts), key=lambda record: record.name)


def names(yard: Yard) -> list[str]:
    return [record.name for record in records(yard)]


def test_host_is_created_up_to_the_largest_size(fleet: Yard) -> None:
    hosts = [fleet.leases.acquire("ci", holder="me", wait=30).host for _number in range(3)]
    assert sorted(hosts) == names(fleet) == ["ci-1", "ci-2", "ci-3"]
    with pytest.raises(Busy, match="fleet ci has 3 of at most 3 hosts"):
        fleet.leases.acquire("ci", holder="me", wait=30)
    assert len(names(fleet)) == 3


def test_request_without_a_wait_creates_nothing(fleet: Yard) -> None:
    fleet.leases.acquire("ci", holder="me")
    with pytest.raises(Busy):
        fleet.leases.acquire("ci", holder="me")
    assert names(fleet) == ["ci-1"]


@pytest.mark.parametrize(
    ("declared_fleet", "limit"),
    [
        (FleetSpec("ci", "base", count=2), 2),
        (FleetSpec("ci", "base", count=1, min_ready=1), 10000),
        (FleetSpec("ci", "base", names=("red",)), 0),
        (FleetSpec("ci", "base", count=1, max=7), 7),
    ],
)
def test_limit_follows_from_the_declaration(
    yard: Yard, declared_fleet: FleetSpec, limit: int
) -> None:
    yard.fleets.apply(declared_fleet)
    assert {record.fleet_max for record in records(yard)} == {limit}


def test_changed_limit_applies_to_hosts_that_exist(fleet: Yard) -> None:
    lease = fleet.leases.acquire("ci", holder="me")
    assert not fleet.fleets.apply(replace(FLEET, max=1)).changed
    with pytest.raises(Busy, match="1 of at most 1 hosts"):
        fleet.leases.acquire("ci", holder="me", wait=30)
    fleet.leases.release(lease.id, replace=True)
    assert [record.fleet_max for record in records(fleet)] == [1]


def test_new_host_is_like_the_newest_one(yard: Yard) -> None:
    yard.fleets.apply(replace(FLEET, labels={"speed": "high"}, ttl=3600.0, host=HostSpec(vcpus=2)))
    for _number in range(2):
        yard.leases.acquire("ci", holder="me", wait=30)
    first, second = records(yard)
    assert (second.spec, second.labels, second.fleet_max) == (first.spec, first.labels, 3)
    assert second.expires - second.created == 3600.0
    assert not yard.leases.ensure(LeaseSpec("me", "ci"), check=True).changed


def test_quota_of_the_pool_limits_the_creation(yard: Yard) -> None:
    yard.pools.apply(PoolSpec("small", hosts=2))
    yard.fleets.apply(replace(FLEET, host=HostSpec(pool="small")))
    for _number in range(2):
        yard.leases.acquire("ci", holder="me", wait=30)
    with pytest.raises(Busy, match="pool small has no quota for another host"):
        yard.leases.acquire(pool="small", holder="me", wait=30)


def test_host_of_an_expired_lease_gives_its_place(fleet: Yard, clock: FakeClock) -> None:
    fleet.fleets.apply(replace(FLEET, max=1))
    fleet.leases.acquire("ci", holder="early", duration=60)
    (old,) = records(fleet)
    assert fleet.leases.acquire("ci", holder="late", wait=120).host == old.name
    (new,) = records(fleet)
    assert new.uuid != old.uuid
    assert clock.now() >= old.created + 60


def test_incomplete_host_gives_its_place(fleet: Yard, hypervisor: FaultyProvider) -> None:
    fleet.leases.acquire("ci", holder="me")
    fleet.fleets.apply(replace(FLEET, max=2))
    hypervisor.fail("fork", KeyboardInterrupt())
    hypervisor.fail("destroy", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fleet.leases.acquire("ci", holder="killed", wait=30)
    assert [record.phase for record in records(fleet)] == ["ready", "creating"]
    assert fleet.leases.acquire("ci", holder="me", wait=30).host == "ci-2"
    assert [record.phase for record in records(fleet)] == ["ready", "ready"]


def test_failed_creation_is_repeated_and_reported(
    fleet: Yard, hypervisor: FaultyProvider, clock: FakeClock
) -> None:
    fleet.leases.acquire("ci", holder="me")
    hypervisor.fail("fork", HypervisorError("no memory is left."))
    start = clock.now()
    assert fleet.leases.acquire("ci", holder="me", wait=60).host == "ci-2"
    assert clock.now() - start >= 5
    for call in range(1, 9):
        hypervisor.fail("fork", HypervisorError("no memory is left."), call=call)
    with pytest.raises(Busy, match="no memory is left"):
        fleet.leases.acquire("ci", holder="me", wait=20)


def test_request_remembers_its_fleet_after_the_last_host(
    fleet: Yard, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.fleets.apply(replace(FLEET, max=1))
    lease = fleet.leases.acquire("ci", holder="me")

    def sleep(seconds: float) -> None:
        clock.time += seconds
        fleet.leases.release(lease.id)

    monkeypatch.setattr(clock, "sleep", sleep)
    assert fleet.leases.acquire("ci", holder="late", wait=30).host == "ci-1"


def test_wait_without_any_host_ends_at_its_deadline(fleet: Yard, clock: FakeClock) -> None:
    start = clock.now()
    with pytest.raises(NotFound, match="no host matches"):
        fleet.leases.acquire("web", holder="me", wait=30)
    assert 30 <= clock.now() - start < 36


def test_later_request_does_not_take_the_host_of_an_earlier_one(fleet: Yard) -> None:
    queues, queue = fleet.context.provider.queues, waiting.queue_of(fleet.context, REQUEST)
    with queues.join(queue, Deadline(600, fleet.context.clock)):
        with pytest.raises(Busy, match="1 earlier requests wait"):
            fleet.leases.acquire("ci", holder="me")
        with pytest.raises(Busy):
            fleet.leases.acquire("ci", holder="me", wait=10)
        fleet.fleets.apply(replace(FLEET, count=2))
        assert fleet.leases.acquire("ci", holder="me").host
    assert fleet.leases.acquire("ci", holder="me").host


def test_request_with_other_labels_or_for_the_pool_has_its_own_queue(fleet: Yard) -> None:
    """The documentation says so: such a request can overtake."""
    queues = fleet.context.provider.queues
    for request in (replace(REQUEST, labels={"disk": "ssd"}), replace(REQUEST, pool="small")):
        queue = waiting.queue_of(fleet.context, request)
        with queues.join(queue, Deadline(600, fleet.context.clock)):
            lease = fleet.leases.acquire("ci", holder="me")
            fleet.leases.release(lease.id, replace=True)
    queue = waiting.queue_of(fleet.context, replace(REQUEST, holder="you", duration=60.0))
    with (
        queues.join(queue, Deadline(600, fleet.context.clock)),
        pytest.raises(Busy, match="1 earlier requests wait"),
    ):
        fleet.leases.acquire("ci", holder="me")


def test_wait_is_reported(fleet: Yard) -> None:
    lines: list[str] = []
    context = replace(fleet.context, progress=lines.append)
    for _number in range(2):
        waiting_yard = Yard(
            provider=context.provider,
            clock=context.clock,
            progress=lines.append,
            pki_dir=str(fleet.context.pki("default").client_directory.parents[2]),
        )
        waiting_yard.leases.acquire("ci", holder="me", wait=30)
    assert "fleet ci: waiting for a host; no request is ahead" in lines
    assert any("creating 1 hosts for 1 leases that wait; it has 1 of at most 3" in x for x in lines)


KILLED = """
import sys
from stockyard import Yard
with Yard(sys.argv[1], pki_dir=sys.argv[2], progress=lambda line: print(line, flush=True)) as yard:
    yard.leases.acquire("ci", holder="killed", wait=600)
"""


def test_hundred_leases_wait_for_ten_hosts(uri: str, tmp_path: Path) -> None:
    """They are served in the order of their arrival, none is lost, and no host has two holders."""
    keys = str(tmp_path / "pki")
    with Yard(uri, pki_dir=keys, clock=BriskClock()) as yard:
        yard.templates.apply(TemplateSpec("base"))
        yard.fleets.apply(FleetSpec("ci", "base", count=10))
        first_leases = [yard.leases.acquire("ci", holder="first") for _number in range(10)]
        queues, queue = yard.context.provider.queues, waiting.queue_of(yard.context, REQUEST)
        killed = [start_waiting(uri, keys) for _number in range(3)]
        served: list[tuple[int, str]] = []
        sizes: list[int] = []
        errors: list[BaseException] = []

        def work(number: int) -> None:
            try:
                with (
                    Yard(uri, pki_dir=keys, clock=QuickClock()) as own_yard,
                    own_yard.leases.acquire("ci", holder=f"job-{number}", wait=300) as lease,
                ):
                    hosts = records(own_yard)
                    served.append((number, uuid_of(hosts, lease.host)))
                    sizes.append(len(hosts))
            except BaseException as error:  # noqa: BLE001  # the main thread reports it
                errors.append(error)

        threads = []
        for number in range(100):
            threads.append(threading.Thread(target=work, args=(number,)))
            threads[-1].start()
            while queues.length(queue, time.time()) < number + 1 + len(killed) and not errors:
                time.sleep(0.002)
        for process in killed:
            process.kill()
            process.communicate()
        for lease in first_leases:
            lease.release()
        for thread in threads:
            thread.join()
        assert errors == []
        assert sorted(number for number, _uuid in served) == list(range(100))
        assert len({uuid for _number, uuid in served}) == 100
        assert max(sizes) <= 10
        # Requests of one round can be served in any order.
        assert max(abs(number - place) for place, (number, _uuid) in enumerate(served)) < 20
        assert queues.length(queue, time.time()) == 0
        assert yard.leases.list() == ()


def uuid_of(hosts: list[HostRecord], name: str) -> str:
    return next(record.uuid for record in hosts if record.name == name)


def start_waiting(uri: str, keys: str) -> subprocess.Popen[Any]:
    """Start a process that waits, and return it when it waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, uri, keys], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "waiting for a host" in process.stdout.readline()
    return process
