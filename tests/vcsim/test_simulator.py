# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of the other tests: the simulator is as strict as vCenter, and its guests are guests."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from stockyard.guest.agent.guestinfo import pack
from tests.vcsim.conftest import Start
from tests.vcsim.simulator import Simulator


def done(task: Any) -> Any:
    """A task's information, at its end."""
    end = time.monotonic() + 20
    while task.info.state not in ("success", "error"):
        assert time.monotonic() < end
        time.sleep(0.005)
    return task.info


def machines(instance: Any) -> dict[str, Any]:
    """All machines by name."""
    content = instance.RetrieveContent()
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
    return {machine.name: machine for machine in view.view}


def option(name: str, value: str) -> Any:
    return vim.option.OptionValue(key=name, value=value)


def clone(source: Any, name: str, *config: Any, **location: Any) -> Any:
    """The end of an instant clone."""
    where = vim.vm.RelocateSpec(**location)
    return done(
        source.InstantClone_Task(
            vim.vm.InstantCloneSpec(name=name, location=where, config=list(config))
        )
    )


def ask(machine: Any, number: str, **message: Any) -> dict[str, Any]:
    """Return the answer of a guest."""
    request = option("guestinfo.stockyard.request", pack({**message, "id": number}))
    assert (
        done(machine.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[request]))).state == "success"
    )
    end = time.monotonic() + 20
    while time.monotonic() < end:
        options = {o.key: o.value for o in machine.config.extraConfig}
        answer = options.get("guestinfo.stockyard.answer", "-")
        if answer != "-" and json.loads(base64.b64decode(answer))["id"] == number:
            decoded: dict[str, Any] = json.loads(base64.b64decode(answer))
            return decoded
        time.sleep(0.01)
    raise TimeoutError(f"{machine.name} did not answer")


@pytest.fixture
def source(vcenter: Simulator) -> Any:
    """The machine that is there from the beginning."""
    vcenter.reset()
    return machines(vcenter.connect())["DC0_C0_RP0_VM0"]


def test_an_instant_clone_runs_and_is_another(source: Any) -> None:
    ended = clone(source, "one", option("stockyard.record", "of the clone"))
    clone_of_source = ended.result
    cards = [
        [
            d.macAddress
            for d in machine.config.hardware.device
            if isinstance(d, vim.vm.device.VirtualEthernetCard)
        ]
        for machine in (source, clone_of_source)
    ]
    disk: Any = next(
        d
        for d in clone_of_source.config.hardware.device
        if isinstance(d, vim.vm.device.VirtualDisk)
    )
    assert clone_of_source.runtime.powerState == "poweredOn"
    assert clone_of_source.runtime.instantCloneFrozen is False
    assert clone_of_source.runtime.host == source.runtime.host
    assert cards[0] != cards[1]
    assert disk.backing.parent.fileName.endswith("DC0_C0_RP0_VM0/disk1.vmdk")
    assert clone_of_source.config.uuid != source.config.uuid
    assert clone_of_source.config.instanceUuid != source.config.instanceUuid
    assert {o.key: o.value for o in clone_of_source.config.extraConfig}[
        "stockyard.record"
    ] == "of the clone"


def test_instant_clone_is_refused_as_by_a_vcenter(source: Any) -> None:
    assert clone(source, "twice").state == "success"
    assert isinstance(clone(source, "twice").error, vim.fault.DuplicateName)
    second_host = next(h for h in source.runtime.host.parent.host if h != source.runtime.host)
    assert isinstance(
        clone(source, "elsewhere", host=second_host).error, vmodl.fault.InvalidArgument
    )
    disk = next(
        d for d in source.config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)
    )
    change = vim.vm.device.VirtualDeviceSpec(operation="edit", device=disk)
    assert isinstance(
        clone(source, "disk", deviceChange=[change]).error, vim.fault.InvalidDeviceSpec
    )


def test_check_reports_the_fault_of_the_clone(vcenter: Simulator) -> None:
    instance = vcenter.connect()
    source, checker = machines(instance)["DC0_C0_RP0_VM0"], instance.content.vmProvisioningChecker
    for name, faults in (("new", []), ("DC0_C0_RP0_VM0", [vim.fault.DuplicateName])):
        spec = vim.vm.InstantCloneSpec(name=name, location=vim.vm.RelocateSpec())
        (result,) = done(checker.CheckInstantClone_Task(source, spec)).result
        assert [
            type(problem.fault if hasattr(problem, "fault") else problem)
            for problem in result.error
        ] == faults
    assert "new" not in machines(instance)


def test_a_running_source_grows_with_each_clone(vcenter: Simulator) -> None:
    instance = vcenter.connect()
    source = machines(instance)["DC0_C0_RP0_VM0"]
    before = len(source.layoutEx.disk[0].chain)
    assert clone(source, "deep").state == "success"
    assert len(source.layoutEx.disk[0].chain) == before + 1


def test_an_old_change_version_changes_nothing(source: Any) -> None:
    version = source.config.changeVersion
    first, second = (
        done(source.ReconfigVM_Task(vim.vm.ConfigSpec(changeVersion=version, annotation=text)))
        for text in ("a", "b")
    )
    assert first.state == "success"
    assert isinstance(second.error, vim.fault.ConcurrentAccess)
    assert source.config.annotation == "a"


def test_fault_occurs_the_declared_number_of_times(vcenter: Simulator, source: Any) -> None:
    vcenter.fail("InstantClone_Task", "InsufficientResourcesFault", times=2, skip=1)
    states = [clone(source, f"fault-{number}").state for number in range(4)]
    assert states == ["success", "error", "error", "success"]
    vcenter.fail(
        "InstantClone_Task",
        "NoPermission",
        at="call",
        privilege="VirtualMachine.Provisioning.Clone",
    )
    with pytest.raises(vim.fault.NoPermission) as caught:
        clone(source, "denied")
    assert caught.value.privilegeId == "VirtualMachine.Provisioning.Clone"
    vcenter.fail("InstantClone_Task", "SystemError", at="after")
    assert clone(source, "survivor").state == "error"
    assert "survivor" in machines(vcenter.connect())
    with pytest.raises(ValueError, match="NoSuchFault"):
        vcenter.fail("InstantClone_Task", "NoSuchFault")


def test_calls_are_counted_by_name(vcenter: Simulator, source: Any) -> None:
    vcenter.reset()
    clone(source, "counted")
    assert vcenter.changes() == {"InstantClone_Task": 1}
    assert vcenter.log()[0]["object"] == source._moId


def test_sessions_are_dropped_and_logins_are_checked(vcenter: Simulator) -> None:
    instance = vcenter.connect()
    instance.CurrentTime()
    vcenter.drop_sessions()
    with pytest.raises(vim.fault.NotAuthenticated):
        instance.CurrentTime()
    vcenter.connect().CurrentTime()
    right, vcenter.password = vcenter.password, "wrong"
    try:
        with pytest.raises(vim.fault.InvalidLogin):
            vcenter.connect()
    finally:
        vcenter.password = right


def test_a_denied_privilege_is_missing(vcenter: Simulator, source: Any) -> None:
    manager = vcenter.connect().content.authorizationManager
    session = vcenter.connect().content.sessionManager.currentSession.key
    vcenter.deny("VirtualMachine.Provisioning.Clone")
    privileges = ["VirtualMachine.Provisioning.Clone", "VirtualMachine.Interact.PowerOn"]
    (result,) = manager.HasPrivilegeOnEntities([source], session, privileges)
    assert {p.privId: p.isGranted for p in result.privAvailability} == dict(
        zip(privileges, (False, True), strict=True)
    )
    vcenter.reset()


def test_the_guest_is_the_real_agent_and_freezes(own_vcenter: Simulator) -> None:
    source = machines(own_vcenter.connect())["DC0_C0_RP0_VM0"]
    own_vcenter.reset()
    assert ask(source, "1", op="hello")["agent"] >= 2
    assert "unknown operation" in ask(source, "2", op="no-such")["error"]
    assert set(own_vcenter.changes()) == {"ReconfigVM_Task"}
    ask(source, "3", op="freeze")
    end = time.monotonic() + 10
    while not source.runtime.instantCloneFrozen:
        assert time.monotonic() < end
    request = option("guestinfo.stockyard.request", pack({"op": "hello", "id": "4"}))
    assert done(source.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[request]))).state == "success"
    awake_clone = clone(
        source, "awake", option("guestinfo.stockyard.request", pack({"op": "hello", "id": "5"}))
    ).result
    # One question at a time: a guest overwrites what it has taken.
    end = time.monotonic() + 20
    while pack({"op": "hello", "id": "5"}) in [o.value for o in awake_clone.config.extraConfig]:
        assert time.monotonic() < end
    assert ask(awake_clone, "6", op="hello")["uuid"] == ""
    options = {o.key: o.value for o in source.config.extraConfig}
    assert json.loads(base64.b64decode(options["guestinfo.stockyard.answer"]))["id"] == "3"
    assert len(source.layoutEx.disk[0].chain) == 1


def test_simulator_ends_with_all_its_processes(start: Start) -> None:
    running = Simulator().start()
    assert running._process is not None
    assert running._guests is not None
    pids = running._process.pid, running._guests.pid
    command = "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)
    running.stop()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert not running.directory.exists()
    assert running.password not in command


def test_an_unmodified_simulator_has_no_instant_clone(start: Start) -> None:
    source = machines(start(instant_clone=False).connect())["DC0_C0_RP0_VM0"]
    with pytest.raises(vmodl.fault.MethodNotFound):
        clone(source, "none")
