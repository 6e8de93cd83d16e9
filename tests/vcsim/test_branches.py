# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Branches on a simulated vCenter: children are instant clones of their running parent."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from stockyard import (
    BranchSpec,
    HypervisorError,
    ImageSpec,
    OperationRefused,
    SingleSpec,
    TemplateSpec,
    Unsupported,
    VolumeSpec,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.errors import NotFound, StockyardError
from stockyard.model.branch import BranchRecord
from stockyard.model.host import HostRecord
from stockyard.model.template import TemplateRecord
from stockyard.providers.vsphere import fork
from stockyard.resources.hosts.reservation import HostRequest, reserve
from tests.helpers.values import present
from tests.vcsim.conftest import Start
from tests.vcsim.simulator import SOURCE, Simulator, finished

BASE = TemplateSpec("base", image=ImageSpec(source=SOURCE))
TRUNK, TWIG = "trunk", "twig"
# A controller of its own, which dies between its branch and the first child.
CONTROLLER = """
import os, signal, sys
from stockyard import Yard
from stockyard.clock import Deadline
with Yard(sys.argv[1], owner="branches", pki_dir=sys.argv[2]) as yard:
    observation = yard.context.provider.observe("branches")
    trunk, template = observation.hosts[0].record, observation.templates[0].record
    yard.context.provider.branches.create(trunk, template, 1.0, Deadline(60))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def shared(vcenter: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    pki = str(tmp_path_factory.mktemp("pki"))
    with Yard(vcenter.uri + "?endpoints=false", owner="branches", pki_dir=pki) as opened:
        opened.templates.apply(BASE)
        yield opened
        opened.teardown(templates=True)


@pytest.fixture
def yard(shared: Yard, vcenter: Simulator) -> Iterator[Yard]:
    """A yard with one host, the trunk."""
    vcenter.reset()
    shared.hosts.apply(SingleSpec(TRUNK, "base"))
    yield shared
    vcenter.reset()
    for host in shared.hosts.list():
        shared.hosts.delete(host.name)


def records(yard: Yard) -> tuple[HostRecord, TemplateRecord]:
    """The trunk and its template."""
    observation = yard.context.provider.observe("branches")
    (template,) = observation.templates
    trunk = next(host for host in observation.hosts if host.record.name == TRUNK)
    return trunk.record, template.record


def branched(yard: Yard) -> BranchRecord:
    return yard.context.provider.branches.create(*records(yard), 1.0, Deadline(60))


def forked(yard: Yard, branch: BranchRecord, name: str = TWIG) -> HostRecord:
    """A child without an identity."""
    trunk, template = records(yard)
    request = HostRequest("default", "", name, trunk.spec, {})
    child = reserve(yard.context, request, template, branch.uuid)
    try:
        yard.context.provider.branches.fork(child, branch, Deadline(60))
    except StockyardError:
        yard.context.provider.destroy(child)
        raise
    return child


def machine(vcenter: Simulator, name: str) -> Any:
    return vcenter.find(f"stockyard/branches.default.{name}")


def card(vcenter: Simulator, name: str) -> Any:
    (nic,) = (
        device
        for device in machine(vcenter, name).config.hardware.device
        if isinstance(device, vim.vm.device.VirtualEthernetCard)
    )
    return nic


def disk(vcenter: Simulator, name: str) -> Any:
    (device,) = (
        device
        for device in machine(vcenter, name).config.hardware.device
        if isinstance(device, vim.vm.device.VirtualDisk)
    )
    return device.backing


def test_a_child_is_a_clone_of_the_running_parent_and_its_card_is_not_connected(
    yard: Yard, vcenter: Simulator
) -> None:
    branch = branched(yard)
    vcenter.reset()
    child = forked(yard, branch)
    (clone,) = (call for call in vcenter.log() if call["method"] == "InstantClone_Task")
    assert clone["object"] == machine(vcenter, TRUNK)._moId
    assert (card(vcenter, TRUNK).connectable.connected, card(vcenter, TWIG).macAddress) == (
        True,
        child.mac,
    )
    link = card(vcenter, TWIG).connectable
    assert (link.connected, link.startConnected, link.migrateConnect) == (
        False,
        False,
        "disconnect",
    )
    assert machine(vcenter, TWIG).config.uuid == child.uuid
    bases = set()
    for name in (TRUNK, TWIG):
        backing = disk(vcenter, name)
        while backing.parent:
            backing = backing.parent
        bases.add(backing.fileName)
    assert len(bases) == 1
    assert disk(vcenter, TRUNK).fileName != disk(vcenter, TWIG).fileName
    yard.context.provider.branches.release(branch)


def test_children_have_an_identity_of_their_own_and_no_key_of_their_parent(
    yard: Yard, vcenter: Simulator
) -> None:
    children = yard.hosts.branch(BranchSpec(TRUNK, ("twig-1", "twig-2"))).objects
    grandchildren = yard.hosts.branch(BranchSpec("twig-2", ("leaf",))).objects
    hosts = [yard.hosts.get(TRUNK), *children, *grandchildren]
    assert {(host.phase, host.state, host.mode) for host in hosts} == {
        ("ready", "running", "instant")
    }
    for fact in ("uuid", "mac", "address"):
        assert len({getattr(host, fact) for host in hosts}) == 4
    for fact in ("machine_id", "ssh_host_key", "certificate"):
        assert len({getattr(present(host.identity), fact) for host in hosts}) == 4
    keys = {host.name: private_keys(vcenter, host.name) for host in hosts}
    assert all(keys.values())
    for key, other_key in itertools.combinations(keys, 2):
        assert not keys[key] & keys[other_key]
    assert all(card(vcenter, host.name).connectable.connected for host in hosts)
    assert not yard.hosts.branch(BranchSpec(TRUNK, ("twig-1", "twig-2"))).changed


def private_keys(vcenter: Simulator, name: str) -> set[bytes]:
    """The private keys in the files of a guest."""
    root = vcenter.directory / "guests" / str(machine(vcenter, name)._moId)
    files = (path.read_bytes() for path in root.rglob("*") if path.is_file())
    return {text for text in files if b"PRIVATE KEY" in text}


@pytest.mark.parametrize("order", list(itertools.permutations((TRUNK, "twig-1", "twig-2"))))
def test_parent_and_children_are_deleted_in_every_order(
    yard: Yard, vcenter: Simulator, order: tuple[str, ...]
) -> None:
    yard.hosts.branch(BranchSpec(TRUNK, ("twig-1", "twig-2")))
    names = set(order)
    for name in order:
        yard.hosts.delete(name)
        names.remove(name)
        yard.reap()
        assert {(host.name, host.state) for host in yard.hosts.list()} == {
            (name, "running") for name in names
        }
        assert len(yard.context.provider.branches.all()) == bool(names - {TRUNK})
    (template,) = yard.context.provider.observe("branches").templates
    assert {child_object.name for child_object in vcenter.find("stockyard").childEntity} == {
        "stockyard-register",
        template.record.domain,
    }


@pytest.mark.parametrize("state", ["poweredOff", "suspended"])
def test_a_parent_that_does_not_run_has_no_children(
    yard: Yard, vcenter: Simulator, state: str
) -> None:
    branch = branched(yard)
    vcenter.power(machine(vcenter, TRUNK)._moId, state)
    with pytest.raises(OperationRefused, match=state) as refusal:
        forked(yard, branch)
    assert refusal.value.remedy == "start the host, and run again"
    assert vcenter.calls()["InstantClone_Task"] == 1  # the trunk itself
    yard.context.provider.branches.release(branch)
    assert yard.context.provider.branches.all() == []


def test_a_parent_that_is_switched_off_at_the_last_moment_is_refused(
    yard: Yard, vcenter: Simulator
) -> None:
    branch = branched(yard)
    trunk = machine(vcenter, TRUNK)._moId
    forks: Any = yard.context.provider
    check = forks.forks.check_branchable

    def check_and_power_off(parent: HostRecord, task_machine: Any) -> None:
        check(parent, task_machine)
        vcenter.power(trunk, "poweredOff")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forks.forks, "check_branchable", check_and_power_off)
        with pytest.raises(OperationRefused, match="does not run"):
            forked(yard, branch)
    forks.branches.release(branch)


def test_a_parent_that_was_deleted_has_no_children(yard: Yard, vcenter: Simulator) -> None:
    branch = branched(yard)
    child = reserve(
        yard.context,
        HostRequest("default", "", TWIG, records(yard)[0].spec, {}),
        records(yard)[1],
        branch.uuid,
    )
    yard.hosts.delete(TRUNK)
    with pytest.raises(NotFound, match="parent"):
        yard.context.provider.branches.fork(child, branch, Deadline(60))
    yard.context.provider.branches.release(branch)


def test_a_parent_with_volumes_is_refused(yard: Yard, vcenter: Simulator) -> None:
    yard.volumes.attach(VolumeSpec("data", size_gib=1), host=TRUNK, path="/data")
    with pytest.raises(Unsupported, match="volumes") as refusal:
        branched(yard)
    assert refusal.value.remedy == "detach its volumes, and run again"
    # vCenter refuses the clone too: the disk is in no snapshot.
    spec = vim.vm.InstantCloneSpec(name="direct", location=vim.vm.RelocateSpec())
    task = machine(vcenter, TRUNK).InstantClone_Task(spec)
    with pytest.raises(AssertionError, match="NotSupported"):
        finished(task)
    yard.volumes.detach("data")
    yard.volumes.delete("data")
    yard.context.provider.branches.release(branched(yard))


def test_a_parent_with_too_many_delta_disks_is_refused(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork, "MOST_DELTAS", 4)
    yard.hosts.branch(BranchSpec(TRUNK, ("twig-1", "twig-2")))
    with pytest.raises(Unsupported, match="4 delta disks") as refusal:
        yard.hosts.branch(BranchSpec(TRUNK, ("twig-1", "twig-2", "twig-3")))
    assert refusal.value.remedy == "branch another host, or replace this one"
    assert {host.name for host in yard.hosts.list()} == {TRUNK, "twig-1", "twig-2"}


def test_a_vcenter_without_instant_clones_has_no_branches(start: Start, tmp_path: Path) -> None:
    vcenter = start(instant_clone=False)
    with Yard(
        vcenter.uri + "?endpoints=false&frozen=false", owner="branches", pki_dir=str(tmp_path)
    ) as yard:
        yard.templates.apply(BASE)
        yard.hosts.apply(SingleSpec(TRUNK, "base"))
        vcenter.reset()
        with pytest.raises(Unsupported, match="does not support instant clones") as refusal:
            yard.hosts.branch(BranchSpec(TRUNK, (TWIG,)))
        assert "6.7" in (refusal.value.remedy or "")
        assert [host.name for host in yard.hosts.list()] == [TRUNK]
        assert yard.context.provider.branches.all() == []


def test_the_objections_of_vcenter_come_before_a_child_is_reserved(
    yard: Yard, vcenter: Simulator
) -> None:
    vcenter.fail("CheckInstantClone_Task", "NoCompatibleHost")
    with pytest.raises(HypervisorError, match="NoCompatibleHost"):
        yard.hosts.branch(BranchSpec(TRUNK, (TWIG,)))
    assert [host.name for host in yard.hosts.list()] == [TRUNK]
    assert vcenter.changes()["InstantClone_Task"] == 1  # the trunk itself
    yard.hosts.branch(BranchSpec(TRUNK, (TWIG,)))


def test_a_missing_privilege_is_named(yard: Yard, vcenter: Simulator) -> None:
    branch = branched(yard)
    vcenter.deny("VirtualMachine.Provisioning.Clone")
    with pytest.raises(HypervisorError, match=r"VirtualMachine\.Provisioning\.Clone"):
        forked(yard, branch)
    vcenter.reset()
    yard.context.provider.branches.release(branch)


def test_an_unreadable_record_of_a_branch_is_reported(yard: Yard, vcenter: Simulator) -> None:
    register = vcenter.find("stockyard/stockyard-register")
    key = "stockyard.branch.0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10"

    def put(value: str) -> None:
        option = vim.option.OptionValue(key=key, value=value)
        finished(register.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[option])))

    put("1 nonsense")
    observation = yard.context.provider.observe("branches")
    assert [entry.name.partition(" ")[0] for entry in observation.unreadable] == ["branch"]
    assert yard.context.provider.branches.all() == []
    put("")


def test_the_branch_of_a_dead_controller_is_deleted(
    yard: Yard, vcenter: Simulator, tmp_path: Path
) -> None:
    argv = [sys.executable, "-c", CONTROLLER, yard.context.provider.uri, str(tmp_path / "pki")]
    assert subprocess.run(argv, check=False).returncode == -signal.SIGKILL
    provider = yard.context.provider
    assert len(provider.branches.all()) == 1
    provider.sweep("branches", 0.0, check=True)
    assert len(provider.branches.all()) == 1
    provider.sweep("branches", 0.0)
    assert provider.branches.all() == []
