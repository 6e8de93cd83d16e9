# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes on a simulated vCenter: they outlive hosts, wherever vCenter moves them to, and one host
has each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from stockyard import (
    FleetSpec,
    HostSpec,
    HypervisorError,
    ImageSpec,
    OperationRefused,
    OutOfSpace,
    TemplateSpec,
    Unsupported,
    VolumeInfo,
    VolumeSpec,
    VolumeUse,
    Yard,
)
from stockyard.clock import Deadline
from tests.vcsim.simulator import SOURCE, Simulator, finished

BASE = TemplateSpec("base", image=ImageSpec(source=SOURCE))
OWN = VolumeUse("{host}-data", "/data", 2)
REGISTER = "stockyard/stockyard-register"


def fleet(count: int = 2, use: VolumeUse = OWN, **changes: Any) -> FleetSpec:
    return FleetSpec("web", "base", count=count, host=HostSpec(volumes=(use,), **changes))


@pytest.fixture(scope="module")
def shared(vcenter: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    pki = str(tmp_path_factory.mktemp("pki"))
    with Yard(vcenter.uri + "?endpoints=false", owner="volumes", pki_dir=pki) as opened:
        opened.templates.apply(BASE)
        yield opened
        opened.teardown(templates=True)


@pytest.fixture
def yard(shared: Yard, vcenter: Simulator) -> Iterator[Yard]:
    """The yard, without hosts and volumes before and after."""
    vcenter.reset()
    yield shared
    vcenter.reset()
    shared.fleets.delete("web")
    for volume in shared.volumes.list():
        shared.volumes.detach(volume.name)
        shared.volumes.delete(volume.name)


def the(yard: Yard, name: str) -> VolumeInfo:
    (volume,) = yard.volumes.list(name=name)
    return volume


def machine(vcenter: Simulator, name: str) -> Any:
    return vcenter.find(f"stockyard/volumes.default.{name}")


def files(vcenter: Simulator, name: str) -> list[str]:
    """The files of a machine's disks that no snapshot takes along."""
    devices = machine(vcenter, name).config.hardware.device
    disks: list[Any] = [d for d in devices if isinstance(d, vim.vm.device.VirtualDisk)]
    return [d.backing.fileName for d in disks if d.backing.diskMode == "independent_persistent"]


def guest(vcenter: Simulator, name: str) -> Path:
    """The guest's own files."""
    return vcenter.directory / "guests" / str(machine(vcenter, name)._moId)


def test_volume_moves_to_the_next_host_of_its_name(yard: Yard, vcenter: Simulator) -> None:
    yard.fleets.apply(fleet())
    assert not yard.fleets.apply(fleet()).changed
    disk = the(yard, "web-1-data").disk
    assert files(vcenter, "web-1") == [disk]
    (guest(vcenter, "web-1") / "data" / "kept").write_text("of the first")
    before = machine(vcenter, "web-1")._moId
    yard.fleets.apply(fleet(ports=(8080,)))
    assert machine(vcenter, "web-1")._moId != before
    assert files(vcenter, "web-1") == [disk]
    assert (guest(vcenter, "web-1") / "data" / "kept").read_text() == "of the first"
    yard.fleets.apply(fleet(0))
    assert {(v.name, v.host, v.filesystem) for v in yard.volumes.list()} == {
        ("web-1-data", "", "ext4"),
        ("web-2-data", "", "ext4"),
    }


def test_copies_have_the_data_of_their_source_and_are_independent(
    yard: Yard, vcenter: Simulator
) -> None:
    yard.fleets.apply(fleet(1))
    (guest(vcenter, "web-1") / "data" / "seed").write_text("seed")
    with pytest.raises(OperationRefused, match="web-1"):
        yard.volumes.apply(VolumeSpec("early", source="web-1-data"))
    yard.fleets.delete("web")
    yard.volumes.apply(VolumeSpec("frozen", source="web-1-data", snapshot=True))
    yard.fleets.apply(fleet(2, VolumeUse("{host}-copy", "/data", 3, "frozen")))
    for name in ("web-1", "web-2"):
        assert (guest(vcenter, name) / "data" / "seed").read_text() == "seed"
        assert the(yard, f"{name}-copy").size_gib == 3
    (guest(vcenter, "web-1") / "data" / "seed").write_text("mine")
    assert (guest(vcenter, "web-2") / "data" / "seed").read_text() == "seed"


def test_volume_of_a_running_host_is_attached_grown_and_detached(
    yard: Yard, vcenter: Simulator
) -> None:
    yard.fleets.apply(FleetSpec("web", "base", count=2))
    spec = VolumeSpec("data", size_gib=1)
    yard.volumes.attach(spec, host="web-2", path="/data")
    assert not yard.volumes.attach(spec, host="web-2", path="/data").changed
    with pytest.raises(OperationRefused, match="web-2"):
        yard.volumes.attach(spec, host="web-1", path="/data")
    yard.volumes.apply(replace(spec, size_gib=5))
    disks = [
        d
        for d in machine(vcenter, "web-2").config.hardware.device
        if isinstance(d, vim.vm.device.VirtualDisk)
    ]
    assert 5 << 20 in [d.capacityInKB for d in disks]
    spec = VolumeSpec("data")
    yard.volumes.detach(spec.name)
    assert files(vcenter, "web-2") == []
    yard.volumes.attach(spec, host="web-1", path="/data")
    assert files(vcenter, "web-1") == [the(yard, "data").disk]


def test_a_disk_that_vcenter_moved_is_followed(yard: Yard, vcenter: Simulator) -> None:
    """As storage vMotion does: the disk gets another file while its machine runs."""
    yard.fleets.apply(fleet(1))
    virtual_machine, disk = machine(vcenter, "web-1"), the(yard, "web-1-data").disk
    elsewhere = disk.replace("stockyard-volumes/", "stockyard-volumes/moved-")
    (device,) = [
        d
        for d in virtual_machine.config.hardware.device
        if getattr(d.backing, "fileName", "") == disk
    ]
    uuid = device.backing.uuid
    remove = vim.vm.device.VirtualDeviceSpec(operation="remove", device=device)
    finished(virtual_machine.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[remove])))
    provider: Any = yard.context.provider
    manager = provider.session.content.virtualDiskManager
    move = (disk, provider.lookup.datacenter, elsewhere, provider.lookup.datacenter, False)
    provider.tasks.run("move", "disk", lambda: manager.MoveVirtualDisk_Task(*move), Deadline(20))
    device.backing.fileName, device.backing.uuid = elsewhere, uuid
    add = vim.vm.device.VirtualDeviceSpec(operation="add", device=device)
    finished(virtual_machine.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[add])))
    yard.fleets.delete("web")
    assert the(yard, "web-1-data").disk == elsewhere
    yard.volumes.delete("web-1-data")
    assert yard.volumes.list() == ()


def test_missing_volume_privilege_or_space_changes_nothing(
    yard: Yard, vcenter: Simulator, tmp_path: Path
) -> None:
    spec = VolumeSpec("data", size_gib=1)
    vcenter.deny("Datastore.FileManagement")
    uri = vcenter.uri + "?endpoints=false"
    with Yard(uri, owner="volumes", pki_dir=str(tmp_path)) as fresh:
        with pytest.raises(HypervisorError, match="privilege") as caught:
            fresh.volumes.apply(spec)
        assert "Datastore.FileManagement" in str(caught.value)
    vcenter.reset()
    vcenter.fail("CreateVirtualDisk_Task", "NoDiskSpace", datastore="LocalDS_0")
    with pytest.raises(OutOfSpace, match="LocalDS_0"):
        yard.volumes.apply(spec)
    assert yard.volumes.list() == ()


def test_a_host_whose_guest_cannot_tell_disks_apart_gets_none(
    yard: Yard, vcenter: Simulator
) -> None:
    """As of a template that was made before there were volumes here."""
    yard.fleets.apply(FleetSpec("web", "base", count=1))
    unset = vim.option.OptionValue(key="disk.EnableUUID", value="FALSE")
    finished(machine(vcenter, "web-1").ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[unset])))
    with pytest.raises(Unsupported, match="the guest cannot identify its disks"):
        yard.volumes.attach(VolumeSpec("data", size_gib=1), host="web-1", path="/data")
    assert files(vcenter, "web-1") == []


def test_busy_machine_gets_its_disk(yard: Yard, vcenter: Simulator) -> None:
    yard.fleets.apply(FleetSpec("web", "base", count=1))
    yard.volumes.apply(VolumeSpec("data", size_gib=1))
    vcenter.fail("ReconfigVM_Task", "ConcurrentAccess", skip=3, times=3)
    yard.volumes.attach("data", host="web-1", path="/data")
    assert the(yard, "data").mounted


def test_a_teardown_keeps_volumes_and_the_register_that_knows_of_them(
    own_vcenter: Simulator, tmp_path: Path
) -> None:
    before = set(own_vcenter.machines())
    uri = own_vcenter.uri + "?endpoints=false"
    with Yard(uri, owner="volumes", pki_dir=str(tmp_path)) as yard:
        yard.templates.apply(BASE)
        yard.fleets.apply(fleet(1))
        yard.teardown(templates=True)
        assert [(v.name, v.host) for v in yard.volumes.list()] == [("web-1-data", "")]
        assert own_vcenter.find(REGISTER) is not None
        yard.teardown(templates=True, volumes=True)
        assert yard.volumes.list() == ()
    assert set(own_vcenter.machines()) == before
