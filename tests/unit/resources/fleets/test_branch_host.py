# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are branched from a running host."""

from __future__ import annotations

import pytest

from stockyard import (
    FleetSpec,
    HostInfo,
    HostSpec,
    InvalidInput,
    NotFound,
    OperationRefused,
    PoolQuotaExceeded,
    PoolSpec,
    SingleSpec,
    Unsupported,
    Yard,
)
from stockyard.model.branch import BranchRecord, BranchSpec
from stockyard.providers.memory.provider import MemoryProvider
from tests.helpers.branching import branch
from tests.helpers.faulty_provider import FaultyProvider

TRUNK = SingleSpec("trunk", "base", labels={"of": "trunk"})
TWIGS = BranchSpec("trunk", ("twig-1", "twig-2"))


@pytest.fixture
def trunk(yard: Yard) -> HostInfo:
    return yard.hosts.apply(TRUNK).object


def branches(yard: Yard) -> list[BranchRecord]:
    store = yard.context.provider.branches
    assert store is not None
    return store.all()


def test_each_child_is_a_ready_host_with_its_own_identity(yard: Yard, trunk: HostInfo) -> None:
    result = branch(yard, TWIGS)
    assert [str(action) for action in result.plan.actions] == [
        "create host twig-1: branched from host trunk",
        "create host twig-2: branched from host trunk",
    ]
    hosts = [yard.hosts.get("trunk"), *result.objects]
    assert all(host.ready for host in hosts)
    for key in ("uuid", "mac", "address"):
        assert len({getattr(host, key) for host in hosts}) == 3
    for key in ("machine_id", "ssh_host_key", "certificate"):
        assert len({getattr(host.identity, key) for host in hosts}) == 3
    assert hosts[0].identity == trunk.identity


def test_children_have_no_label_of_their_parent_and_the_declared_ones(
    yard: Yard, trunk: HostInfo
) -> None:
    spec = BranchSpec("trunk", ("twig",), labels={"run": "1"}, ttl=600.0)
    (twig,) = branch(yard, spec).objects
    assert twig.labels == {"run": "1"}
    assert twig.expires


def test_a_second_run_creates_only_missing_children(yard: Yard, trunk: HostInfo) -> None:
    branch(yard, TWIGS)
    assert not branch(yard, TWIGS).changed
    yard.hosts.delete("twig-1")
    assert [action.name for action in branch(yard, TWIGS).plan.actions] == ["twig-1"]


def test_check_mode_changes_nothing(
    yard: Yard, hypervisor: FaultyProvider, trunk: HostInfo
) -> None:
    assert branch(yard, TWIGS, check=True).changed
    assert [host.name for host in yard.hosts.list()] == ["trunk"]
    assert branches(yard) == []


@pytest.mark.parametrize(
    "order", [("trunk", "twig-1", "twig-2"), ("twig-2", "trunk", "twig-1"), ("twig-1", "twig-2")]
)
def test_the_branch_is_deleted_with_its_last_child(
    yard: Yard, trunk: HostInfo, order: tuple[str, ...]
) -> None:
    branch(yard, TWIGS)
    assert [record.phase for record in branches(yard)] == ["released"]
    for name in order[:-1]:
        yard.hosts.delete(name)
        assert len(branches(yard)) == 1
    yard.hosts.delete(order[-1])
    assert branches(yard) == []


def test_a_branch_of_a_child_works_without_the_parent(yard: Yard, trunk: HostInfo) -> None:
    branch(yard, TWIGS)
    yard.hosts.delete("trunk")
    (leaf,) = branch(yard, BranchSpec("twig-1", ("leaf",))).objects
    assert leaf.ready
    assert len(branches(yard)) == 2


def test_a_failed_child_leaves_no_branch(
    yard: Yard, hypervisor: FaultyProvider, trunk: HostInfo
) -> None:
    yard.pools.apply(PoolSpec("small", hosts=1))
    yard.hosts.replace(SingleSpec("trunk", "base", host=HostSpec(pool="small")))
    with pytest.raises(PoolQuotaExceeded):
        branch(yard, TWIGS)
    assert branches(yard) == []
    assert [host.name for host in yard.hosts.list()] == ["trunk"]


def test_a_member_of_a_fleet_can_be_branched(yard: Yard) -> None:
    yard.fleets.apply(FleetSpec("web", "base", count=1))
    (child,) = branch(yard, BranchSpec("web-1", ("copy",))).objects
    assert child.fleet == ""
    assert not yard.fleets.apply(FleetSpec("web", "base", count=1)).changed


def test_a_host_that_does_not_exist_is_refused(yard: Yard) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        branch(yard, TWIGS)


def test_a_leased_host_is_refused(yard: Yard) -> None:
    yard.fleets.apply(FleetSpec("ci", "base", count=1))
    lease = yard.leases.acquire("ci", holder="job")
    with pytest.raises(OperationRefused, match="its holder is job"):
        branch(yard, BranchSpec(lease.host, ("copy",)))


def test_a_hypervisor_without_branches_says_so(
    yard: Yard, trunk: HostInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryProvider, "branches", None)
    with pytest.raises(Unsupported, match="Hosts of this hypervisor cannot be branched"):
        branch(yard, TWIGS)


@pytest.mark.parametrize(
    ("parent", "names"), [("trunk", ()), ("trunk", ("a", "a")), ("trunk", ("trunk",)), ("", ("a",))]
)
def test_nonsense_is_refused(parent: str, names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput):
        BranchSpec(parent, names)
