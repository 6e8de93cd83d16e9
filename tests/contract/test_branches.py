# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Branches: a running host is frozen and continues, and hosts are forked from the branch."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from stockyard.clock import Deadline
from stockyard.errors import OperationRefused, StockyardError, Unsupported
from stockyard.hypervisor.branch_store import BranchStore
from stockyard.hypervisor.provider import Provider
from stockyard.model.branch import BranchRecord
from stockyard.model.host import HostRecord
from stockyard.model.network import USER_NETWORK
from stockyard.model.template import TemplateRecord
from stockyard.model.volume import Attachment, VolumeRecord
from stockyard.resources.context import Context
from stockyard.resources.hosts.identity import discard, identify, scrub
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


def test_released_branch_without_hosts_is_deleted(
    store: BranchStore, drafts: Drafts, parent: HostRecord, deadline: Deadline
) -> None:
    branch = store.create(parent, drafts.template, 1.0, deadline)
    store.prune(parent.owner)
    assert own(store, parent) == [branch]
    store.release(branch)
    store.release(branch)
    assert own(store, parent) == []


def test_stopped_host_is_not_branched(
    provider: Provider, store: BranchStore, drafts: Drafts, deadline: Deadline
) -> None:
    record = drafts.reserved()
    with pytest.raises(StockyardError, match="does not run"):
        store.create(record, drafts.template, 1.0, deadline)
    assert own(store, record) == []


@pytest.mark.parametrize("harm", ["kill", "pause"])
def test_host_that_stops_before_the_branch_is_refused(
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


def test_template_under_a_branch_is_not_deleted(
    provider: Provider, store: BranchStore, drafts: Drafts, parent: HostRecord, deadline: Deadline
) -> None:
    branch = store.create(parent, drafts.template, 1.0, deadline)
    provider.destroy(parent)
    drafts.made.remove(replace(parent, identity=None))
    try:
        remaining_hosts = [
            host.record
            for host in provider.observe(parent.owner).hosts
            if host.record.generation == parent.generation
        ]
        with pytest.raises(OperationRefused, match="branch" if not remaining_hosts else ""):
            provider.destroy(drafts.template)
    finally:
        store.release(branch)


@dataclass
class Store:
    """A running host with a volume at /data, in which a text can be written and read."""

    provider: Provider
    host: HostRecord
    volume: VolumeRecord
    deadline: Deadline
    copies: list[VolumeRecord] = field(default_factory=list)

    def branch(self, template: TemplateRecord) -> BranchRecord:
        return self.provider.branches.create(self.host, template, 1.0, self.deadline, [self.volume])

    def copy(self, branch: BranchRecord, child: HostRecord) -> VolumeRecord:
        """A copy of the volume for a reserved child, on record as attached."""
        record = replace(
            self.volume,
            name=f"copy-{child.uuid[:8]}",
            uuid=str(uuid.uuid4()),
            source=self.volume.name,
            attachment=Attachment(child.uuid, child.name, "/data"),
            version=1,
        )
        self.provider.branches.copy_volume(record, branch, self.deadline)
        self.copies.append(record)
        return record

    def clean(self) -> None:
        volumes = self.provider.volumes
        for record in (*self.copies, self.volume):
            stored = volumes.observe(record.owner).find(record.tenant, record.name)
            if stored and stored.attachment:
                volumes.claim(stored, attachment=None)
            volumes.destroy(record)


@pytest.fixture
def storing(
    context: Context, provider: Provider, drafts: Drafts, parent: HostRecord, deadline: Deadline
) -> Iterator[Store]:
    if not provider.capabilities.branches_volumes:
        pytest.skip("this hypervisor cannot branch hosts with volumes (branches_volumes)")
    own = str(uuid.uuid4())
    record = VolumeRecord(
        parent.owner, parent.tenant, f"v-{own[:8]}", own, 1, "creating", 1.0, filesystem="ext4"
    )
    provider.volumes.create(record, None, deadline)
    attachment = Attachment(parent.uuid, parent.name, "/data", mounted=True)
    record = provider.volumes.claim(record, phase="ready", attachment=attachment)
    provider.volumes.plug(parent, record, deadline)
    with context.guest(parent, deadline) as guest:
        guest.volume_create(record.serial, record.uuid)
        guest.volume_mount(record.serial, "/data")
    store = Store(provider, parent, record, deadline)
    yield store
    # Volumes outlive the machines that use them.
    drafts.clean()
    store.clean()


def test_a_child_uses_a_copy_of_a_volume_in_its_place(
    context: Context, store: BranchStore, drafts: Drafts, storing: Store, deadline: Deadline
) -> None:
    branch = storing.branch(drafts.template)
    (branched_volume,) = branch.volumes
    assert (branched_volume.name, branched_volume.path) == (storing.volume.name, "/data")
    child = drafts.reserved(branch=branch.uuid)
    copy = storing.copy(branch, child)
    store.fork(child, branch, deadline, [copy])
    store.release(branch)
    context.provider.volumes.plug(child, copy, deadline)
    for host, volume in ((storing.host, storing.volume), (child, copy)):
        with context.guest(host, deadline) as guest:
            # The agent knows the parent's serial number until it is told that of the copy.
            guest.volume_mount(volume.serial, "/data")
            assert guest.hello().missing == ()
    context.provider.destroy(storing.host)
    with context.guest(child, deadline) as guest:
        guest.volume_unmount("/data")
        context.provider.volumes.unplug(child, copy, deadline)
        context.provider.volumes.plug(child, copy, deadline)
        assert guest.volume_probe(copy.serial).kind == "ext4"


def test_a_child_drops_volumes_that_it_has_no_copy_of(
    context: Context, store: BranchStore, drafts: Drafts, storing: Store, deadline: Deadline
) -> None:
    branch = storing.branch(drafts.template)
    child = child_of(store, drafts, branch, deadline)
    with context.guest(child, deadline) as guest:
        guest.volume_drop("/data")
        store.drop_volumes(child, branch, deadline)
        store.drop_volumes(child, branch, deadline)
        assert guest.hello().missing == ()
    store.release(branch)
    with context.guest(storing.host, deadline) as guest:
        guest.volume_mount(storing.volume.serial, "/data")
    volumes = context.provider.volumes.observe(child.owner).volumes
    assert [volume for volume in volumes if volume.source == storing.volume.name] == []


def test_a_volume_that_is_plugged_in_and_not_on_record_is_refused(
    store: BranchStore, drafts: Drafts, storing: Store, deadline: Deadline
) -> None:
    with pytest.raises(OperationRefused, match="other disks than its record"):
        store.create(storing.host, drafts.template, 1.0, deadline)
    assert own(store, storing.host) == []


def test_a_branched_volume_can_be_detached_copied_and_deleted(
    context: Context, store: BranchStore, drafts: Drafts, storing: Store, deadline: Deadline
) -> None:
    volumes = context.provider.volumes
    branch = storing.branch(drafts.template)
    store.release(branch)
    with context.guest(storing.host, deadline) as guest:
        guest.volume_unmount("/data")
    volumes.unplug(storing.host, storing.volume, deadline)
    detached = volumes.claim(storing.volume, attachment=None)
    copy = replace(detached, name=f"{detached.name}-copy", uuid=str(uuid.uuid4()), version=1)
    storing.copies.append(copy)
    volumes.create(copy, detached, deadline)
    volumes.destroy(detached)
    volumes.plug(storing.host, copy, deadline)
    with context.guest(storing.host, deadline) as guest:
        assert guest.volume_probe(copy.serial).kind == "ext4"


def test_a_hypervisor_that_cannot_branch_volumes_says_so(
    provider: Provider, store: BranchStore, drafts: Drafts, parent: HostRecord, deadline: Deadline
) -> None:
    if provider.capabilities.branches_volumes:
        pytest.skip("this hypervisor can")
    volume = VolumeRecord(parent.owner, parent.tenant, "data", str(uuid.uuid4()), 1, "ready", 1.0)
    with pytest.raises(Unsupported, match="with volumes") as refusal:
        store.create(parent, drafts.template, 1.0, deadline, [volume])
    assert refusal.value.remedy
    assert own(store, parent) == []


def template_of(drafts: Drafts) -> TemplateRecord:
    """The record of a template that a branch becomes."""
    own_uuid = uuid.uuid4()
    return replace(
        drafts.template,
        name=f"warm-{own_uuid.hex[:8]}",
        uuid=str(own_uuid),
        generation=own_uuid.hex * 2,
        phase="booting",
        version=1,
        checksums=None,
    )


def test_a_branch_becomes_a_template_that_needs_neither_branch_nor_host(
    context: Context, store: BranchStore, drafts: Drafts, parent: HostRecord, deadline: Deadline
) -> None:
    provider = context.provider
    if not provider.capabilities.freezes_hosts:
        pytest.skip("this hypervisor creates no templates from hosts (freezes_hosts)")
    branch = store.create(parent, drafts.template, 1.0, deadline)
    record = template_of(drafts)
    store.fork_template(record, branch, deadline)
    with context.guest(record, deadline) as guest:
        assert guest.hello().uuid == parent.uuid
        scrub(record, guest, USER_NETWORK)
        assert guest.hello().uuid == ""
    frozen = provider.freeze(record, deadline)
    store.release(branch)
    provider.destroy(parent)
    assert own(store, parent) == []
    child = drafts(template=frozen.name, generation=frozen.generation)
    try:
        provider.create_host(child, frozen)
        provider.fork(child, frozen, provider.capabilities.modes[0], deadline)
        with context.guest(child, deadline) as guest:
            assert guest.hello().uuid == ""
            identify(context, child, guest)
            assert guest.hello().uuid == child.uuid
    finally:
        provider.destroy(child)
        provider.destroy(frozen)


def test_a_hypervisor_that_cannot_create_templates_from_hosts_says_so(
    provider: Provider, store: BranchStore, drafts: Drafts, parent: HostRecord, deadline: Deadline
) -> None:
    if provider.capabilities.freezes_hosts:
        pytest.skip("this hypervisor can")
    branch = store.create(parent, drafts.template, 1.0, deadline)
    try:
        with pytest.raises(Unsupported, match="cannot be created from a host") as refusal:
            store.fork_template(template_of(drafts), branch, deadline)
        assert refusal.value.remedy
    finally:
        store.release(branch)
