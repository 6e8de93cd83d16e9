# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reaping over the memory hypervisor: what goes, what stays, and what is said of it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard import (
    FleetSpec,
    HypervisorError,
    Result,
    SingleSpec,
    SkippedObject,
    StockyardError,
    Yard,
)
from stockyard.hypervisor import records
from stockyard.model.host import HostRecord
from stockyard.providers.memory.provider import MemoryProvider
from stockyard.providers.memory.state import Machine
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.samples import host_record, template_record

FLEET = FleetSpec("ci", "base", count=2)


@pytest.fixture
def fleet(yard: Yard) -> Yard:
    """A yard with a fleet of two and a host of its own."""
    yard.fleets.apply(FLEET)
    yard.hosts.apply(SingleSpec("alone", "base", ttl=3600.0))
    return yard


@pytest.fixture
def inner(hypervisor: FaultyProvider) -> MemoryProvider:
    assert isinstance(hypervisor.inner, MemoryProvider)
    return hypervisor.inner


def names(yard: Yard) -> list[str]:
    return [h.name for h in yard.hosts.list()]


def plan(result: Result[SkippedObject]) -> list[str]:
    return [str(action) for action in result.plan.actions]


def left(result: Result[SkippedObject]) -> dict[str, str]:
    return {skipped.name: skipped.reason for skipped in result.objects}


def test_where_all_is_well_nothing_is_done(fleet: Yard) -> None:
    before = fleet.hosts.list()
    result = fleet.reap(grace=0)
    assert (plan(result), result.objects) == ([], ())
    assert fleet.hosts.list() == before


def test_an_empty_hypervisor_stays_empty(bare: Yard, tmp_path: Path) -> None:
    result = bare.reap(dry_run=True, grace=0)
    assert (plan(result), result.objects) == ([], ())
    assert list(tmp_path.iterdir()) == []


def test_expired_host_is_reaped(fleet: Yard, clock: FakeClock) -> None:
    lease = fleet.leases.acquire("ci", holder="job", duration=60)
    keys = Path(lease.environment["DOCKER_CERT_PATH"])
    clock.time += 59
    assert plan(fleet.reap(dry_run=True)) == []
    clock.time += 1
    dry = fleet.reap(dry_run=True)
    assert dry.plan.diff()["before"][f"host {lease.host}"] == {"phase": "ready"}
    assert keys.exists()
    assert len(names(fleet)) == 3
    assert (
        plan(fleet.reap())[0]
        == plan(dry)[0]
        == f"delete host {lease.host}: its lease by job expired"
    )
    assert not keys.exists()
    clock.time += 3600
    assert plan(fleet.reap()) == ["delete host alone: its time to live ended"]
    assert len(names(fleet)) == 1
    assert plan(fleet.reap()) == []


def test_a_leased_host_is_not_reaped_for_its_age(yard: Yard, clock: FakeClock) -> None:
    yard.fleets.apply(replace(FLEET, ttl=60.0))
    lease = yard.leases.acquire("ci", holder="job", duration=600)
    clock.time += 100
    yard.reap()
    assert names(yard) == [lease.host]


def half(fleet: Yard, hypervisor: FaultyProvider, phase: str, name: str = "ci-1") -> HostRecord:
    record = next(h.record for h in hypervisor.observe("stockyard").hosts if h.record.name == name)
    claimed: HostRecord = hypervisor.claim(record, phase=phase)
    return claimed


def test_incomplete_host_is_reaped_after_the_grace_period(
    fleet: Yard, hypervisor: FaultyProvider, clock: FakeClock
) -> None:
    half(fleet, hypervisor, "creating")
    half(fleet, hypervisor, "deleting", "ci-2")
    assert left(fleet.reap(dry_run=True)) == {"ci-1": "it has been creating for only 0 s"}
    result = fleet.reap()
    assert plan(result) == ["delete host ci-2: its deletion was interrupted"]
    assert left(result) == {"ci-1": "it has been creating for only 0 s"}
    clock.time += 3600
    assert plan(fleet.reap())[0] == "delete host ci-1: its creation was interrupted"
    assert names(fleet) == []


def test_incomplete_templates_are_reaped_unless_hosts_use_them(
    fleet: Yard, hypervisor: FaultyProvider, clock: FakeClock
) -> None:
    record = template_record(name="half", phase="booting", created=clock.now())
    hypervisor.create_template(record, fleet.context.deadline(1))
    assert plan(fleet.reap()) == []
    clock.time += 3600
    result = fleet.reap()
    assert "delete template half: its creation was interrupted" in plan(result)
    assert [t.name for t in fleet.templates.list()] == ["base"]


def test_locked_object_is_skipped(fleet: Yard, hypervisor: FaultyProvider) -> None:
    half(fleet, hypervisor, "deleting")
    with hypervisor.exclusive("stockyard.default.fleet.ci", fleet.context.deadline(1)):
        result = fleet.reap()
    assert plan(result) == []
    assert "locked by another controller" in left(result)["ci"]
    assert "ci-1" in names(fleet)


def test_host_renewed_before_its_lock_is_kept(
    fleet: Yard, hypervisor: FaultyProvider, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    half(fleet, hypervisor, "creating")
    clock.time += 3600
    exclusive = hypervisor.inner.exclusive

    def mended(name: str, deadline: object) -> object:
        host_then = next(
            h.record for h in hypervisor.inner.observe("stockyard").hosts if h.record.name == "ci-1"
        )
        if host_then.phase != "ready":
            hypervisor.inner.claim(host_then, phase="ready")
        return exclusive(name, deadline)  # type: ignore[arg-type]

    monkeypatch.setattr(hypervisor.inner, "exclusive", mended)
    fleet.reap()
    assert "ci-1" in names(fleet)


def test_one_that_cannot_go_does_not_keep_the_others(
    fleet: Yard, hypervisor: FaultyProvider, clock: FakeClock, inner: MemoryProvider
) -> None:
    half(fleet, hypervisor, "deleting")
    clock.time += 3600
    hypervisor.fail("destroy", HypervisorError("the disk is busy"))
    with pytest.raises(StockyardError, match="the disk is busy"):
        fleet.reap()
    assert names(fleet) == ["ci-1", "ci-2"]
    assert plan(fleet.reap())[0].startswith("delete host ci-1")


@pytest.fixture
def zoo(fleet: Yard, inner: MemoryProvider) -> Callable[[], dict[str, Machine]]:
    """A foreign machine with stockyard's prefix, one that cannot be read, a copy, and two of
    another owner.
    """
    foreign_host = host_record(owner="other", name="theirs", phase="deleting", created=1.0)
    damaged = next(h.record for h in inner.observe("stockyard").hosts if h.record.name == "ci-2")
    with inner.state.change() as machines:
        machines["stockyard.default.foreign-1"] = Machine("", "running")
        machines["stockyard.default.copy"] = Machine(records.encode(damaged))
        machines[foreign_host.domain] = Machine(records.encode(foreign_host))
        machine = machines[damaged.domain]
        machines[damaged.domain] = replace(machine, record=machine.record[:-5])
    kept_domains = [
        "stockyard.default.foreign-1",
        "stockyard.default.copy",
        foreign_host.domain,
        damaged.domain,
    ]

    def now() -> dict[str, Machine]:
        document = inner.state.read()
        return {name: document[name] for name in kept_domains if name in document}

    return now


def test_object_without_proof_of_ownership_is_kept(
    fleet: Yard, zoo: Callable[[], dict[str, Machine]], inner: MemoryProvider, clock: FakeClock
) -> None:
    before, damaged = zoo(), inner.state.read()["stockyard.default.ci-2"]
    disks = {p.name for p in inner.disks.folder.iterdir()}
    clock.time += 1e7
    result = fleet.reap(grace=0)
    skipped = left(result)
    assert set(skipped) >= {*before}
    assert "another owner" in skipped["other.default.theirs"]
    assert "copy" in skipped["stockyard.default.copy"]
    fleet.fleets.apply(replace(FLEET, count=0))
    fleet.teardown(templates=False)
    fleet.reap(grace=0)
    fleet.templates.prune()
    assert zoo() == before
    assert names(fleet) == []
    uuid = next(name for name in disks if name in damaged.record and not name.endswith(".json"))
    assert (inner.disks.folder / uuid).is_dir()


def test_orphaned_file_is_kept_while_a_machine_cannot_be_read(
    fleet: Yard, zoo: Callable[[], dict[str, Machine]], inner: MemoryProvider
) -> None:
    with inner.state.change() as machines:
        del machines["stockyard.default.ci-1"]
    result = fleet.reap(grace=0)
    assert "unreadable machine may refer to it" in " ".join(left(result).values())
    assert not [action for action in plan(result) if "disks" in action]


def test_files_that_nothing_refers_to_go(
    fleet: Yard, inner: MemoryProvider, tmp_path: Path
) -> None:
    deleted = next(h.record for h in inner.observe("stockyard").hosts if h.record.name == "ci-1")
    with inner.state.change() as machines:
        del machines[deleted.domain]
    locks = inner.state.folder / "locks"
    (locks / "stockyard.left.lock").write_text("")
    (locks / "neighbour.left.lock").write_text("")
    (tmp_path / ".hypervisor.0123abcd.new").write_text("half")
    young = fleet.reap()
    assert "s ago" in left(young)[str(inner.disks.path(deleted))]
    assert [path.name for path in locks.iterdir()] == ["neighbour.left.lock"]
    assert not (tmp_path / ".hypervisor.0123abcd.new").exists()
    result = fleet.reap(grace=0)
    assert plan(result) == [f"remove file {inner.disks.path(deleted)}: no record refers to it"]
    assert not list(inner.disks.folder.glob(f"{deleted.uuid}*"))
    assert len(names(fleet)) == 2


def test_leftovers_on_the_controller_are_reaped(
    fleet: Yard, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = fleet.context.pki("default").directory
    lease = fleet.leases.acquire("ci", holder="me", duration=60)
    living = fleet.leases.acquire("ci", holder="me", duration=7200)
    keys = Path(lease.environment["DOCKER_CERT_PATH"])
    clock.time += 61
    # As if the host were on another hypervisor: nothing here knows of the lease.
    moved = keys.with_name("elsewhere")
    keys.rename(moved)
    (keys.parent / "half").mkdir()
    (keys.parent / "half" / "key.pem").write_text("x")
    (keys.parent / "precious").mkdir()
    (keys.parent / "precious" / "notes.txt").write_text("x")
    for name in (".crl.pem.123", "client/.key.pem.99", "..ca-key.pem.new.0123abcd.new"):
        (home / name).write_text("half")
    (home / ".mine").write_text("x")
    ca = (home / "ca-key.pem").read_text()
    (home / "tunnels").mkdir()
    dead, alive = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(home / "tunnels")
    dead.bind("dead")
    dead.close()
    alive.bind("alive")
    alive.listen()
    dry = plan(fleet.reap(dry_run=True, grace=0))
    assert moved.exists()
    assert [a for a in plan(fleet.reap(grace=0)) if a.startswith("remove")] == [
        a for a in dry if a.startswith("remove")
    ]
    alive.close()
    assert sorted(p.name for p in keys.parent.iterdir()) == sorted([living.id, "precious"])
    assert sorted(p.name for p in (home / "tunnels").iterdir()) == ["alive"]
    assert not [p for p in home.rglob(".*") if p.name[-1].isdigit()]
    assert (home / ".mine").exists()
    assert (home / "ca-key.pem").read_text() == ca


def container_machine(yard: Yard, **facts: str) -> None:
    """Create a host as an endpoint with the image host images does."""
    prefix = "stockyard.endpoint"
    labels = {prefix: "doors", f"{prefix}/image-host": "images"}
    labels |= {f"{prefix}/{key.replace('_', '-')}": value for key, value in facts.items()}
    yard.hosts.apply(SingleSpec("job", "base", labels=labels))


def test_a_container_machine_without_a_container_is_reaped(yard: Yard, clock: FakeClock) -> None:
    yard.hosts.apply(SingleSpec("images", "base"))
    container_machine(yard)
    clock.time += 3599
    assert plan(yard.reap()) == []
    clock.time += 1
    assert plan(yard.reap(dry_run=True)) == plan(yard.reap())
    assert "job" not in names(yard)


def test_a_spare_is_reaped_some_time_after_its_endpoint_ended(yard: Yard, clock: FakeClock) -> None:
    yard.hosts.apply(SingleSpec("images", "base"))
    container_machine(yard, needed_at=f"{clock.time + 3000:.0f}")
    clock.time += 6599
    assert plan(yard.reap()) == []
    clock.time += 1
    (action,) = plan(yard.reap())
    assert "no container was created in it" in action


def test_a_container_machine_is_reaped_some_time_after_its_image_host(
    yard: Yard, clock: FakeClock
) -> None:
    yard.hosts.apply(SingleSpec("images", "base"))
    container_machine(yard, container_id="0123")
    clock.time += 9000
    assert plan(yard.reap()) == []
    yard.hosts.delete("images")
    assert plan(yard.reap()) == []
    clock.time += 3599
    assert plan(yard.reap()) == []
    # The image host is created again, and the time starts again.
    yard.hosts.apply(SingleSpec("images", "base"))
    clock.time += 9000
    assert plan(yard.reap(dry_run=True)) == plan(yard.reap()) == []
    yard.hosts.delete("images")
    assert plan(yard.reap()) == []
    clock.time += 3600
    (action,) = plan(yard.reap())
    assert "the image host images of its endpoint does not exist" in action
    assert "job" not in names(yard)
