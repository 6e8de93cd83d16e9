# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are branched from a running host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    BranchSpec,
    Busy,
    FleetSpec,
    HeldLease,
    HostInfo,
    HostSpec,
    HypervisorError,
    InvalidInput,
    NotFound,
    OperationRefused,
    PoolQuotaExceeded,
    PoolSpec,
    SecuritySpec,
    SingleSpec,
    TemplateSpec,
    Unsupported,
    Yard,
)
from stockyard.guest.agent import main
from stockyard.model.branch import BranchRecord
from stockyard.providers.memory.branches import MemoryBranches
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider

TRUNK = SingleSpec("trunk", "base", labels={"of": "trunk"})
TWIGS = BranchSpec("trunk", ("twig-1", "twig-2"))


@pytest.fixture
def trunk(yard: Yard) -> HostInfo:
    return yard.hosts.apply(TRUNK).object


def branches(yard: Yard) -> list[BranchRecord]:
    return yard.context.provider.branches.all()


def test_each_child_is_a_ready_host_with_its_own_identity(yard: Yard, trunk: HostInfo) -> None:
    result = yard.hosts.branch(TWIGS)
    assert [str(action) for action in result.plan.actions] == [
        "create host twig-1: branched from host trunk",
        "create host twig-2: branched from host trunk",
    ]
    hosts = [yard.hosts.get("trunk"), *result.objects]
    assert {host.ready for host in hosts} == {True}
    for key in ("uuid", "mac", "address"):
        assert len({getattr(host, key) for host in hosts}) == 3
    for key in ("machine_id", "ssh_host_key", "certificate"):
        assert len({getattr(host.identity, key) for host in hosts}) == 3
    assert hosts[0].identity == trunk.identity


def test_children_have_no_label_of_their_parent_and_the_declared_ones(
    yard: Yard, trunk: HostInfo
) -> None:
    spec = BranchSpec("trunk", ("twig",), labels={"run": "1"}, ttl=600.0)
    (twig,) = yard.hosts.branch(spec).objects
    assert twig.labels == {"run": "1"}
    assert twig.expires


def test_a_second_run_creates_only_missing_children(yard: Yard, trunk: HostInfo) -> None:
    yard.hosts.branch(TWIGS)
    assert not yard.hosts.branch(TWIGS).changed
    yard.hosts.delete("twig-1")
    assert [action.name for action in yard.hosts.branch(TWIGS).plan.actions] == ["twig-1"]


def test_check_mode_changes_nothing(
    yard: Yard, hypervisor: FaultyProvider, trunk: HostInfo
) -> None:
    assert yard.hosts.branch(TWIGS, check=True).changed
    assert [host.name for host in yard.hosts.list()] == ["trunk"]
    assert branches(yard) == []


@pytest.mark.parametrize(
    "order", [("trunk", "twig-1", "twig-2"), ("twig-2", "trunk", "twig-1"), ("twig-1", "twig-2")]
)
def test_the_branch_is_deleted_with_its_last_child(
    yard: Yard, trunk: HostInfo, order: tuple[str, ...]
) -> None:
    yard.hosts.branch(TWIGS)
    assert [record.phase for record in branches(yard)] == ["released"]
    for name in order[:-1]:
        yard.hosts.delete(name)
        assert len(branches(yard)) == 1
    yard.hosts.delete(order[-1])
    assert branches(yard) == []


def test_a_branch_of_a_child_works_without_the_parent(yard: Yard, trunk: HostInfo) -> None:
    yard.hosts.branch(TWIGS)
    yard.hosts.delete("trunk")
    (leaf,) = yard.hosts.branch(BranchSpec("twig-1", ("leaf",))).objects
    assert leaf.ready
    assert len(branches(yard)) == 2


@pytest.mark.parametrize("check", [False, True])
def test_a_full_pool_is_refused_before_anything_changes(
    yard: Yard, hypervisor: FaultyProvider, trunk: HostInfo, check: bool
) -> None:
    yard.pools.apply(PoolSpec("small", hosts=2))
    yard.hosts.replace(SingleSpec("trunk", "base", host=HostSpec(pool="small")))
    with pytest.raises(PoolQuotaExceeded, match="Nothing was changed"):
        yard.hosts.branch(TWIGS, check=check)
    assert branches(yard) == []
    assert [host.name for host in yard.hosts.list()] == ["trunk"]


def test_a_member_of_a_fleet_can_be_branched(yard: Yard) -> None:
    yard.fleets.apply(FleetSpec("web", "base", count=1))
    (child,) = yard.hosts.branch(BranchSpec("web-1", ("copy",))).objects
    assert child.fleet == ""
    assert not yard.fleets.apply(FleetSpec("web", "base", count=1)).changed


def test_a_host_that_does_not_exist_is_refused(yard: Yard) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        yard.hosts.branch(TWIGS)


@pytest.fixture
def leased(yard: Yard) -> HeldLease:
    yard.fleets.apply(FleetSpec("ci", "base", count=1))
    return yard.leases.acquire("ci", holder="job", duration="20m")


@pytest.mark.parametrize("number", ["", "0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10"])
def test_a_host_that_is_leased_by_another_holder_is_refused(
    yard: Yard, leased: HeldLease, number: str
) -> None:
    with pytest.raises(OperationRefused, match="it is leased by job"):
        yard.hosts.branch(BranchSpec(leased.host, ("copy",), lease=number))
    assert branches(yard) == []


def test_children_of_a_leased_host_are_leased_to_its_holder(yard: Yard, leased: HeldLease) -> None:
    result = yard.hosts.branch(BranchSpec(leased.host, count=2, fleet="tries", lease=leased.id))
    assert [(child.name, child.fleet) for child in result.objects] == [
        ("tries-1", "tries"),
        ("tries-2", "tries"),
    ]
    leases = yard.leases.list(holder="job")
    assert {lease.host for lease in leases} == {leased.host, "tries-1", "tries-2"}
    assert {lease.until for lease in leases} == {leased.until}
    for key in ("id", "certificate"):
        assert len({getattr(lease, key) for lease in leases}) == 3
    for lease in leases:
        assert Path(lease.docker.environment["DOCKER_CERT_PATH"], "key.pem").exists()
    with pytest.raises(Busy):
        yard.leases.acquire("tries", holder="other")


def test_no_lease_of_a_child_is_left_if_the_child_fails(
    yard: Yard, hypervisor: FaultyProvider, leased: HeldLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryBranches, "fork", fail)
    with pytest.raises(HypervisorError, match="no memory"):
        yard.hosts.branch(BranchSpec(leased.host, ("copy",), lease=leased.id))
    assert [lease.id for lease in yard.leases.list()] == [leased.id]
    folders = Path(leased.environment["DOCKER_CERT_PATH"]).parent.iterdir()
    assert [folder.name for folder in folders] == [leased.id]
    assert branches(yard) == []


def fail(*_arguments: object) -> None:
    raise HypervisorError("no memory is free")


def test_the_number_of_no_lease_is_refused(yard: Yard, trunk: HostInfo) -> None:
    with pytest.raises(OperationRefused, match="the host is not leased"):
        yard.hosts.branch(replace(TWIGS, lease="0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10"))


def test_a_host_whose_lease_expired_is_refused(
    yard: Yard, leased: HeldLease, clock: FakeClock
) -> None:
    clock.sleep(1300)
    with pytest.raises(OperationRefused, match="expired"):
        yard.hosts.branch(BranchSpec(leased.host, ("copy",), lease=leased.id))


def test_counted_children_are_called_after_their_parent(yard: Yard, trunk: HostInfo) -> None:
    names = [child.name for child in yard.hosts.branch(BranchSpec("trunk", count=2)).objects]
    assert names == ["trunk-branch-1", "trunk-branch-2"]


def test_children_of_a_fleet_are_leased_and_deleted_with_it(yard: Yard, trunk: HostInfo) -> None:
    yard.hosts.branch(BranchSpec("trunk", count=2, fleet="tries"))
    assert yard.leases.acquire("tries", holder="job").host in ("tries-1", "tries-2")
    yard.fleets.delete("tries")
    assert [host.name for host in yard.hosts.list()] == ["trunk"]
    assert branches(yard) == []


def test_host_that_is_no_child_is_never_replaced(yard: Yard, trunk: HostInfo) -> None:
    yard.hosts.apply(SingleSpec("twig-1", "base"))
    with pytest.raises(OperationRefused, match="it is not a child of host trunk"):
        yard.hosts.branch(TWIGS)
    yard.hosts.delete("twig-1")
    yard.hosts.branch(TWIGS)
    with pytest.raises(OperationRefused, match="it is not a child of host twig-2"):
        yard.hosts.branch(BranchSpec("twig-2", ("twig-1",)))


def test_children_are_as_declared_although_their_parent_was_deleted(
    yard: Yard, trunk: HostInfo
) -> None:
    yard.hosts.branch(TWIGS)
    yard.hosts.delete("trunk")
    assert not yard.hosts.branch(TWIGS).changed


def test_an_incomplete_child_is_replaced(
    yard: Yard, hypervisor: FaultyProvider, trunk: HostInfo
) -> None:
    (twig, _second_twig) = yard.hosts.branch(TWIGS).objects
    provider = yard.context.provider
    record = next(h.record for h in provider.observe("stockyard").hosts if h.name == twig.name)
    provider.claim(record, phase="deleting")
    result = yard.hosts.branch(TWIGS)
    assert [str(action) for action in result.plan.actions] == [
        "replace host twig-1: branched from host trunk"
    ]
    assert result.objects[0].ready
    assert result.objects[0].uuid != twig.uuid


def test_a_hostile_host_is_branched_only_if_that_is_allowed(yard: Yard) -> None:
    yard.templates.apply(TemplateSpec("closed", security=SecuritySpec("hostile")))
    yard.hosts.apply(SingleSpec("cell", "closed"))
    with pytest.raises(OperationRefused, match="profile hostile"):
        yard.hosts.branch(BranchSpec("cell", ("copy",)))
    assert yard.hosts.branch(BranchSpec("cell", ("copy",), allow_hostile=True)).changed


def test_a_host_that_does_not_run_is_refused(
    yard: Yard, hypervisor: FaultyProvider, trunk: HostInfo
) -> None:
    record = yard.context.provider.observe("stockyard").hosts[0].record
    yard.context.provider.stop(record, yard.context.deadline(60))
    with pytest.raises(OperationRefused, match="its machine is off"):
        yard.hosts.branch(TWIGS, check=True)


def test_an_agent_that_is_too_old_is_refused_before_anything_changes(
    yard: Yard, trunk: HostInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "AGENT", 6)
    with pytest.raises(Unsupported, match="too old for branches"):
        yard.hosts.branch(TWIGS)
    assert branches(yard) == []


@pytest.mark.parametrize("action", ["keep", "pause", "restart", "stop"])
def test_containers_are_changed_before_the_identity(
    yard: Yard, hypervisor: FaultyProvider, trunk: HostInfo, action: str
) -> None:
    calls: list[str] = []

    def note(operation: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def unchanged(reply: dict[str, Any]) -> dict[str, Any]:
            calls.append(operation)
            return reply

        return unchanged

    for operation in ("discard-identity", "change-containers", "identify"):
        hypervisor.tamper(operation, note(operation))
    yard.hosts.branch(BranchSpec("trunk", ("twig",), containers=action))
    change = [] if action == "keep" else ["change-containers"]
    assert calls == ["discard-identity", *change, "identify"]


@pytest.mark.parametrize(
    ("host", "changes"),
    [
        ("trunk", {"names": ("a", "a")}),
        ("trunk", {"names": ("trunk",)}),
        ("", {"names": ("a",)}),
        ("trunk", {"names": ("a",), "count": 2}),
        ("trunk", {"count": 0}),
        ("trunk", {"containers": "kill"}),
        ("trunk", {"ttl": 1.0}),
        ("trunk", {"fleet": "No"}),
        ("trunk", {"lease": "x"}),
        ("tries-1", {"fleet": "tries"}),
    ],
)
def test_nonsense_is_refused(host: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        BranchSpec(host, **changes)
