# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts on a simulated vCenter are suspended and resumed with their memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from stockyard import (
    BranchSpec,
    FleetSpec,
    HypervisorError,
    ImageSpec,
    OperationRefused,
    OutOfSpace,
    TemplateSpec,
    Yard,
)
from stockyard.errors import StockyardError
from tests.vcsim.simulator import SOURCE, Simulator, finished

BASE = TemplateSpec("base", image=ImageSpec(source=SOURCE))
WEB = FleetSpec("web", "base", count=2)


@pytest.fixture(scope="module")
def shared(vcenter: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    pki = str(tmp_path_factory.mktemp("pki"))
    with Yard(vcenter.uri + "?endpoints=false", owner="sleepers", pki_dir=pki) as opened:
        opened.templates.apply(BASE)
        yield opened
        opened.teardown(templates=True)


@pytest.fixture
def yard(shared: Yard, vcenter: Simulator) -> Iterator[Yard]:
    """A yard with two hosts."""
    vcenter.reset()
    shared.fleets.apply(WEB)
    vcenter.reset()
    yield shared
    vcenter.reset()
    shared.fleets.delete("web")


def machine(vcenter: Simulator, name: str = "web-1") -> Any:
    return vcenter.find(f"stockyard/sleepers.default.{name}")


def link(vcenter: Simulator, name: str = "web-1") -> tuple[bool, bool]:
    """Whether a machine's network card is connected, and whether it is at the next start."""
    nic: Any = next(
        device
        for device in machine(vcenter, name).config.hardware.device
        if isinstance(device, vim.vm.device.VirtualEthernetCard)
    )
    return nic.connectable.connected, nic.connectable.startConnected


def states(yard: Yard) -> list[str]:
    return [host.state for host in yard.hosts.list(fleet="web")]


def test_a_suspended_host_starts_disconnected_and_resumes_with_its_identity(
    yard: Yard, vcenter: Simulator
) -> None:
    before = yard.hosts.get("web-1")
    assert yard.hosts.suspend("web-1").object.state == "suspended"
    assert machine(vcenter).runtime.powerState == "suspended"
    assert link(vcenter) == (False, False)
    assert not yard.hosts.suspend("web-1").changed
    after = yard.hosts.resume("web-1").object
    assert (after.state, after.identity) == ("running", before.identity)
    assert link(vcenter) == (True, True)
    assert not yard.fleets.apply(WEB).changed


def test_a_machine_that_was_suspended_in_vcenter_is_resumed(yard: Yard, vcenter: Simulator) -> None:
    finished(machine(vcenter).SuspendVM_Task())
    assert sorted(states(yard)) == ["running", "suspended"]
    yard.fleets.apply(WEB)
    assert states(yard) == ["running"] * 2
    assert link(vcenter) == (True, True)


def test_host_that_fails_to_suspend_continues_with_its_network(
    yard: Yard, vcenter: Simulator
) -> None:
    vcenter.fail("SuspendVM_Task", "SystemError")
    with pytest.raises(StockyardError, match="host web-1"):
        yard.hosts.suspend("web-1")
    assert states(yard) == ["running"] * 2
    assert link(vcenter) == (True, True)


def test_a_lost_answer_does_not_matter(yard: Yard, vcenter: Simulator) -> None:
    vcenter.fail("SuspendVM_Task", "SystemError", at="after")
    assert yard.hosts.suspend("web-1").object.state == "suspended"


def test_hosts_that_do_not_fit_into_their_datastore_keep_running(
    yard: Yard, vcenter: Simulator
) -> None:
    name = machine(vcenter).summary.config.vmPathName.partition("]")[0].removeprefix("[")
    free = machine(vcenter).datastore[0].summary.freeSpace
    size_mib = machine(vcenter).summary.config.memorySizeMB
    vcenter.resize_datastore(name, (2 * size_mib << 20) - 1)
    try:
        with pytest.raises(OutOfSpace, match=f"datastore {name}") as refusal:
            yard.fleets.suspend("web")
        assert f"{2 * size_mib} MiB are needed" in str(refusal.value)
        assert vcenter.changes()["SuspendVM_Task"] == 0
        assert yard.hosts.suspend("web-1").changed
    finally:
        vcenter.resize_datastore(name, free)


def test_a_missing_privilege_is_named_before_anything_changes(
    yard: Yard, vcenter: Simulator, tmp_path: Path
) -> None:
    vcenter.deny("VirtualMachine.Interact.Suspend")
    uri = vcenter.uri + "?endpoints=false"
    with (
        Yard(uri, owner="sleepers", pki_dir=str(tmp_path)) as fresh,
        pytest.raises(HypervisorError, match="privilege") as refusal,
    ):
        fresh.fleets.suspend("web")
    assert "VirtualMachine.Interact.Suspend" in str(refusal.value)
    assert vcenter.changes()["SuspendVM_Task"] == 0
    assert states(yard) == ["running"] * 2


def test_a_suspended_host_has_no_children_and_can_be_deleted(
    yard: Yard, vcenter: Simulator
) -> None:
    yard.suspend()
    assert states(yard) == ["suspended"] * 2
    with pytest.raises(OperationRefused, match="running"):
        yard.hosts.branch(BranchSpec("web-1"))
    yard.fleets.apply(replace(WEB, count=1))
    assert machine(vcenter, "web-2") is None
    yard.resume()
    assert states(yard) == ["running"]


def test_a_suspended_child_resumes_as_itself(yard: Yard, vcenter: Simulator) -> None:
    child = yard.hosts.branch(BranchSpec("web-1", ("twig",))).object
    yard.hosts.suspend("twig")
    yard.hosts.delete("web-1")
    assert yard.hosts.resume("twig").object.identity == child.identity
    yard.hosts.delete("twig")
