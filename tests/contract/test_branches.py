# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Branches: a running host is frozen and continues, and hosts are forked from the branch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stockyard.clock import Deadline
from stockyard.errors import OperationRefused, StockyardError
from stockyard.hypervisor.branch_store import BranchStore
from stockyard.hypervisor.provider import Provider
from stockyard.model.branch import BranchRecord
from stockyard.model.host import HostRecord
from stockyard.resources.context import Context
from stockyard.resources.hosts.identity import discard, identify
from tests.contract.bench import Bench
from tests.contract.conftest import Drafts, state_of

# A branch of an emulated machine takes seconds, in which the machine is stopped.
pytestmark = pytest.mark.parametrize(
    "bench",
    ["memory", "vsphere", pytest.param("libvirt", marks=[pytest.mark.real, pytest.mark.full])],
    indirect=True,
)


@pytest.fixture
def store(provider: Provider) -> BranchStore:
    return provider.branches


@pytest.fixture
def parent(context: Context, drafts: Drafts, deadline: Deadline) -> HostRecord:
    """A running host with an identity."""
    record = drafts.forked(deadline)
    with context.guest(record, deadline) as guest:
        identity = identify(context, record, guest)
        guest.settle()
    return replace(record, identity=identity)


def own(store: BranchStore, parent: HostRecord) -> list[BranchRecord]:
    return [record for record in store.all() if record.parent == parent.uuid]


def child_of(
    store: BranchStore, drafts: Drafts, branch: BranchRecord, deadline: Deadline
) -> HostRecord:
    record = drafts.reserved(branch=branch.uuid)
    store.fork(record, branch, deadline)
    return record


def test_parent_and_children_run_and_only_the_parent_has_its_identity(
    context: Context, store: BranchStore, drafts: Drafts, parent: HostRecord, deadline: Deadline
) -> None:
    branch = store.create(parent, drafts.template, 1.0, deadline)
    assert (branch.phase, branch.parent, branch.generation) == (
        "frozen",
        parent.uuid,
        drafts.template.generation,
    )
    assert own(store, parent) == [branch]
    child = child_of(store, drafts, branch, deadline)
    assert [state_of(context.provider, record) for record in (parent, child)] == ["running"] * 2
    with context.guest(child, deadline) as guest:
        assert guest.hello().uuid == parent.uuid
        discard(child, guest)
        assert guest.hello().uuid == ""
        identity = identify(context, child, guest)
        assert guest.hello().uuid == child.uuid
    with context.guest(parent, deadline) as guest:
        assert guest.hello().uuid == parent.uuid
    assert parent.identity is not None
    assert identity.ssh_host_key != parent.identity.ssh_host_key
    store.release(branch)
    assert [record.phase for record in own(store, parent)] == ["released"]


def test_a_released_branch_is_deleted_with_its_last_host(
    provider: Provider, store: BranchStore, drafts: Drafts, parent: HostRecord, deadline: Deadline
) -> None:
    branch = store.create(parent, drafts.template, 1.0, deadline)
    children = [child_of(store, drafts, branch, deadline) for _child in range(2)]
    store.release(branch)
    provider.destroy(parent)
    provider.destroy(children[0])
    assert own(store, parent)
    provider.destroy(children[1])
    assert own(store, parent) == []


@pytest.mark.parametrize("first", ["parent", "elder child", "younger child"])
def test_parent_and_children_are_deleted_in_any_order(
    context: Context,
    store: BranchStore,
    drafts: Drafts,
    parent: HostRecord,
    deadline: Deadline,
    first: str,
) -> None:
    branch = store.create(parent, drafts.template, 1.0, deadline)
    hosts = {"parent": parent}
    for name in ("elder child", "younger child"):
        child = hosts[name] = child_of(store, drafts, branch, deadline)
        with context.guest(child, deadline) as guest:
            discard(child, guest)
            identify(context, child, guest)
    store.release(branch)
    for name in sorted(hosts, key=lambda name: name != first):
        assert own(store, parent)
        context.provider.destroy(hosts.pop(name))
        for record in hosts.values():
            assert state_of(context.provider, record) == "running"
            with context.guest(record, deadline) as guest:
                assert guest.hello().uuid == record.uuid
        if list(hosts) == ["parent"]:
            break
    assert own(store, parent) == []


def test_a_child_can_be_branched(
    context: Context, store: BranchStore, drafts: Drafts, parent: HostRecord, deadline: Deadline
) -> None:
    branch = store.create(parent, drafts.template, 1.0, deadline)
    child = child_of(store, drafts, branch, deadline)
    store.release(branch)
    with context.guest(child, deadline) as guest:
        discard(child, guest)
        identify(context, child, guest)
    second_branch = store.create(child, drafts.template, 2.0, deadline)
    grandchild = child_of(store, drafts, second_branch, deadline)
    store.release(second_branch)
    context.provider.destroy(parent)
    context.provider.destroy(child)
    assert state_of(context.provider, grandchild) == "running"
    with context.guest(grandchild, deadline) as guest:
        assert guest.hello().uuid == child.uuid


def test_a_branch_without_hosts_is_deleted_when_it_is_released(
    store: BranchStore, drafts: Drafts, parent: HostRecord, deadline: Deadline
) -> None:
    branch = store.create(parent, drafts.template, 1.0, deadline)
    store.prune(parent.owner)
    assert own(store, parent) == [branch]
    store.release(branch)
    store.release(branch)
    assert own(store, parent) == []


def test_a_host_that_does_not_run_cannot_be_branched(
    provider: Provider, store: BranchStore, drafts: Drafts, deadline: Deadline
) -> None:
    record = drafts.reserved()
    with pytest.raises(StockyardError, match="does not run"):
        store.create(record, drafts.template, 1.0, deadline)
    assert own(store, record) == []


@pytest.mark.parametrize("harm", ["kill", "pause"])
def test_a_host_that_stopped_cannot_be_branched(
    bench: Bench,
    store: BranchStore,
    drafts: Drafts,
    parent: HostRecord,
    deadline: Deadline,
    harm: str,
) -> None:
    getattr(bench, harm)(parent)
    with pytest.raises(StockyardError, match=r"does not run|is paused") as refusal:
        store.create(parent, drafts.template, 1.0, deadline)
    assert refusal.value.remedy
    assert own(store, parent) == []


def test_a_template_under_a_branch_cannot_be_deleted(
    provider: Provider, store: BranchStore, drafts: Drafts, parent: HostRecord, deadline: Deadline
) -> None:
    branch = store.create(parent, drafts.template, 1.0, deadline)
    provider.destroy(parent)
    drafts.made.remove(replace(parent, identity=None))
    try:
        others = [
            host.record
            for host in provider.observe(parent.owner).hosts
            if host.record.generation == parent.generation
        ]
        with pytest.raises(OperationRefused, match="branch" if not others else ""):
            provider.destroy(drafts.template)
    finally:
        store.release(branch)
