# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of branched hosts on libvirt: overlays, layers and copies, with headers of real qcow2
disks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from stockyard.clock import Deadline
from stockyard.errors import DeadlineExceeded, HypervisorError
from stockyard.model.branch import BranchRecord, BranchVolume
from stockyard.model.template import Hardware
from stockyard.model.volume import Attachment, VolumeRecord
from stockyard.providers.libvirt import disks, layers, volumes
from stockyard.providers.libvirt.branched_volumes import BranchedVolumes
from stockyard.providers.libvirt.layers import EQUAL, backing, overlay_of, top, virtual_size
from stockyard.providers.libvirt.store import Store
from stockyard.providers.libvirt.volumes import LibvirtVolumes
from stockyard.providers.libvirt.xml.element import Element, parse
from tests.helpers.samples import host_record

from .test_volumes import (
    CONFIG,
    HOST,
    LIVE,
    URI,
    Domain,
    Domains,
    draft,
    later,
    made,
    qcow2,
    qemu_img,
)

CHILD = host_record(name="shoot", uuid="88888888-8888-4999-8aaa-bbbbbbbbbbbb")
FIRST = "77777777-8888-4999-8aaa-bbbbbbbbbbbb"
SECOND = "77777777-8888-4999-8aaa-cccccccccccc"


def branch_of(*branch_volumes: BranchVolume, uuid: str = FIRST) -> BranchRecord:
    return BranchRecord(
        owner=HOST.owner,
        tenant=HOST.tenant,
        name=HOST.name,
        uuid=uuid,
        parent=HOST.uuid,
        template=HOST.template,
        generation=HOST.generation,
        image="0" * 64,
        hardware=Hardware(),
        phase="frozen",
        created=1.0,
        mac=HOST.mac,
        volumes=branch_volumes,
    )


class Yard:
    """The volumes of one store, and the machine of a host."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.records: list[BranchRecord] = []
        self.machines = Domains()
        self.volumes = LibvirtVolumes(
            store,
            cast(Any, self.machines),
            URI,
            lambda: store.lock("registry", later()),
            lambda: self.branched.layers_in_use(self.records),
        )
        self.branched = BranchedVolumes(store, self.volumes)

    @property
    def machine(self) -> Domain:
        return self.machines.domain

    def attached(self) -> VolumeRecord:
        """A volume that is plugged into the host's machine."""
        record = self.volumes.claim(
            made(self.volumes), attachment=Attachment(HOST.uuid, HOST.name, "/data", mounted=True)
        )
        self.volumes.plug(HOST, record, later())
        for how in (LIVE, CONFIG):
            for disk in self.machine.xml[how].findall("./devices/disk")[1:]:
                disk.append(parse("<address type='pci' bus='0x05' slot='0x00'/>"))
        return record

    def live(self) -> Element:
        return self.machine.xml[LIVE]

    def branch(self, *records: VolumeRecord, uuid: str = FIRST, switch: bool = True) -> Any:
        """Branch the host; the snapshot is libvirt's part."""
        draft_volumes = (
            BranchVolume(record.name, record.uuid, "/data", record.size_gib) for record in records
        )
        record = self.branched.on_record(
            branch_of(*draft_volumes, uuid=uuid), self.live(), HOST.title
        )
        self.records.append(record)
        overlays = self.branched.overlays(record, self.live(), later())
        if switch:
            for how in (LIVE, CONFIG):
                for disk in self.machine.xml[how].findall("./devices/disk"):
                    target, source = disk.find("target"), disk.find("source")
                    name = target.get("dev", "") if target is not None else ""
                    if source is not None and name in overlays:
                        source.set("file", str(overlays[name]))
        return record

    def layer(self, record: BranchRecord, number: int = 0) -> Path:
        return self.volumes.layers.path(record.volumes[number].layer)

    def folder(self, record: VolumeRecord) -> Path:
        return self.volumes.files.path(record)


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    pytest.importorskip("libvirt")

    def create(argv: Sequence[str], deadline: Deadline, *, name: str) -> str:
        # An empty disk of a size in bytes.
        words = list(argv)
        if words[-1].isdigit():
            words[-1] = f"{int(words[-1]) >> 30}G"
        return qemu_img(words, deadline, name=name)

    for module in (layers, volumes, disks):
        monkeypatch.setattr(module, "run", create)
    monkeypatch.setattr(volumes, "INSIST", 0.1)
    return Yard(Store(tmp_path / "store"))


def test_a_volume_continues_in_an_overlay_and_its_disk_is_the_layer(yard: Yard) -> None:
    volume = yard.attached()
    disk = yard.folder(volume) / "disk.qcow2"
    branch = yard.branch(volume)
    overlay = overlay_of(yard.folder(volume), FIRST)
    assert os.path.samefile(disk, yard.layer(branch))
    assert backing(overlay) == str(yard.layer(branch))
    assert virtual_size(overlay) == virtual_size(disk)
    assert top(yard.folder(volume)) == overlay
    assert not (yard.folder(volume) / EQUAL).exists()
    yard.branched.seal(branch, yard.store.branches)
    assert yard.layer(branch).stat().st_mode & 0o777 == 0o400
    assert overlay.stat().st_mode & 0o200


def test_port_and_layer_of_each_volume_are_on_record(yard: Yard) -> None:
    volume, second = yard.attached(), yard.attached()
    branch = yard.branch(volume, second)
    assert [(item.name, item.port) for item in branch.volumes] == [
        (volume.name, 5),
        (second.name, 5),
    ]
    assert len({item.layer for item in branch.volumes}) == 2
    missing = BranchVolume("gone", "99999999-8888-4999-8aaa-bbbbbbbbbbbb", "/gone", 1)
    with pytest.raises(HypervisorError, match="volume gone is not plugged"):
        yard.branched.on_record(branch_of(missing), yard.live(), HOST.title)


def test_a_disk_that_is_behind_no_port_is_refused(yard: Yard) -> None:
    volume = yard.attached()
    for disk in yard.live().findall("./devices/disk"):
        for address in disk.findall("address"):
            address.set("bus", "0x00")
    with pytest.raises(HypervisorError, match="root port"):
        yard.branch(volume)


def test_a_volume_is_branched_again_and_again(yard: Yard) -> None:
    volume = yard.attached()
    first = yard.branch(volume)
    second = yard.branch(volume, uuid=SECOND)
    overlay = overlay_of(yard.folder(volume), SECOND)
    assert top(yard.folder(volume)) == overlay
    assert backing(overlay) == str(yard.layer(second))
    assert backing(yard.layer(second)) == str(yard.layer(first))
    # After a boot, names of layers take the place of the former names in the machine's definition.
    yard.branched.remove_unused_overlays(first, list(yard.machine.xml.values()))
    assert top(yard.folder(volume)) == overlay


def test_names_of_former_disks_are_deleted_and_their_content_stays(yard: Yard) -> None:
    volume = yard.attached()
    first, second = yard.branch(volume), yard.branch(volume, uuid=SECOND)
    overlay = overlay_of(yard.folder(volume), SECOND)
    yard.branched.remove_former_names(second, [parse("<domain><devices/></domain>")])
    assert len(list(yard.folder(volume).glob("*.qcow2"))) == 3
    yard.branched.remove_former_names(second, yard.machine.xml.values())
    assert list(yard.folder(volume).glob("*.qcow2")) == [overlay]
    assert top(yard.folder(volume)) == overlay
    assert yard.layer(first).exists()


def test_the_disk_that_layers_were_read_into_is_the_one_that_was_written_last(yard: Yard) -> None:
    """A controller died before it deleted the names of former disks."""
    volume = yard.attached()
    for branch in (FIRST, SECOND):
        yard.branch(volume, uuid=branch)
    overlay = overlay_of(yard.folder(volume), SECOND)
    for number, path in enumerate(yard.folder(volume).glob("*.qcow2")):
        os.utime(path, (number, number))
    qcow2(overlay, "", 1 << 30)
    assert top(yard.folder(volume)) == overlay


def test_the_overlay_of_a_failed_branch_is_deleted_and_the_disk_is_complete(yard: Yard) -> None:
    volume = yard.attached()
    disk = yard.folder(volume) / "disk.qcow2"
    content = disk.read_bytes()
    branch = yard.branch(volume, switch=False)
    yard.branched.remove_unused_overlays(branch, list(yard.machine.xml.values()))
    yard.records.clear()
    with yard.volumes.lock():
        yard.volumes.prune()
    assert list(yard.volumes.layers.folder.iterdir()) == []
    assert [path.name for path in yard.folder(volume).glob("*.qcow2")] == ["disk.qcow2"]
    assert disk.read_bytes() == content


def test_an_overlay_stays_if_the_machine_uses_it_or_may_have_used_it(yard: Yard) -> None:
    volume = yard.attached()
    branch = yard.branch(volume)
    overlay = overlay_of(yard.folder(volume), FIRST)
    yard.branched.remove_unused_overlays(branch, list(yard.machine.xml.values()))
    assert overlay.exists()
    # The host is deleted, or has released the volume.
    yard.branched.remove_unused_overlays(branch, [])
    yard.branched.remove_unused_overlays(branch, [parse("<domain><devices/></domain>")])
    assert overlay.exists()


def test_an_unused_overlay_is_not_taken_for_a_disk_that_grew(yard: Yard) -> None:
    """A controller died before the switch-over, and nothing was reaped since."""
    volume = yard.attached()
    yard.branch(volume, switch=False)
    disk = yard.folder(volume) / "disk.qcow2"
    assert yard.volumes._disk(volume) == disk
    assert top(yard.folder(volume)) == overlay_of(yard.folder(volume), FIRST)
    qemu_img(["qemu-img", "resize", str(disk), "2G"], later(), name="")
    assert top(yard.folder(volume)) == disk


def test_a_volume_is_detached_and_attached_after_a_branch(yard: Yard) -> None:
    volume = yard.attached()
    yard.branch(volume)
    overlay = overlay_of(yard.folder(volume), FIRST)
    yard.volumes.unplug(HOST, volume, later())
    assert yard.machine.files(LIVE) == yard.machine.files(CONFIG) == []
    yard.volumes.plug(HOST, volume, later())
    yard.volumes.plug(HOST, volume, later())
    assert yard.machine.files(LIVE) == yard.machine.files(CONFIG) == [str(overlay)]
    yard.volumes.grow(volume, 4, later())
    assert yard.machine.resized == [(str(overlay), 4 << 30)]
    assert yard.volumes.facts(volume).disk == str(overlay)


def test_a_copy_of_the_volume_is_made_of_the_overlay(yard: Yard) -> None:
    volume = yard.attached()
    branch = yard.branch(volume)
    overlay = overlay_of(yard.folder(volume), FIRST)
    inode = overlay.stat().st_ino
    yard.volumes.unplug(HOST, volume, later())
    volume = yard.volumes.claim(volume, attachment=None)
    copy = made(yard.volumes, volume)
    (base,) = {Path(backing(top(yard.folder(record)))) for record in (volume, copy)}
    assert base.stat().st_ino == inode
    assert backing(base) == str(yard.layer(branch))
    assert [path.name for path in yard.folder(volume).glob("*.qcow2")] == ["disk.qcow2"]
    assert (yard.folder(volume) / EQUAL).read_text() == base.stem


def test_copies_for_children_lie_over_the_layer(yard: Yard) -> None:
    volume = yard.attached()
    branch = yard.branch(volume)
    attachment = Attachment(CHILD.uuid, CHILD.name, "/data")
    copies = [draft(source=volume.name, attachment=attachment) for _child in range(3)]
    for copy in copies:
        yard.branched.copy(copy, branch, later())
    assert {backing(top(yard.folder(copy))) for copy in copies} == {str(yard.layer(branch))}
    # A host writes to them at once.
    assert not any((yard.folder(copy) / EQUAL).exists() for copy in copies)
    folder = yard.store.hosts / CHILD.uuid
    (disk,) = yard.branched.disks_of_child(folder, branch, copies[:1], CHILD.title, later())
    assert (disk.path, disk.target) == (str(yard.folder(copies[0]) / "disk.qcow2"), "vdb")
    assert (disk.serial, disk.port, disk.discard) == (copies[0].serial, 5, True)


def test_a_layer_is_deleted_with_the_last_disk_over_it(yard: Yard) -> None:
    volume = yard.attached()
    branch = yard.branch(volume)
    copy = draft(source=volume.name)
    yard.branched.copy(copy, branch, later())
    for record in (volume, copy):
        assert yard.layer(branch).exists()
        current = yard.volumes.files.find(record)
        yard.volumes.destroy(yard.volumes.claim(current, attachment=None))
    # A host can still be forked from the branch.
    assert yard.layer(branch).exists()
    yard.records[:] = [replace(branch, phase="released")]
    assert [orphan.path for orphan in yard.volumes.sweep(HOST.owner, 0.0).removed] == [
        str(yard.layer(branch))
    ]


def test_no_layer_is_deleted_while_a_branch_cannot_be_read(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = yard.attached()
    branch = yard.branch(volume)

    def fail(_records: object) -> set[str]:
        raise HypervisorError("the record of a branch cannot be read.")

    monkeypatch.setattr(yard.branched, "layers_in_use", fail)
    yard.volumes.destroy(yard.volumes.claim(volume, attachment=None))
    assert yard.layer(branch).exists()


def test_hosts_that_are_deleted_during_the_search_have_no_layers(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts of a fleet are deleted in parallel, and each deletion looks at all disks."""
    folder = yard.store.hosts / CHILD.uuid
    folder.mkdir(parents=True)
    (yard.store.hosts / "file").touch()
    iterdir = Path.iterdir

    def listed_and_deleted(path: Path) -> Iterator[Path]:
        entries = list(iterdir(path))
        if path == yard.store.hosts:
            folder.rmdir()
        return iter(entries)

    monkeypatch.setattr(Path, "iterdir", listed_and_deleted)
    assert yard.branched.layers_in_use([]) == set()
    assert not folder.exists()


def test_a_directory_that_cannot_be_read_is_an_error(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disks can lie over any layer."""
    (yard.store.hosts / CHILD.uuid).mkdir(parents=True)

    listdir = os.listdir

    def fail(path: Path) -> list[str]:
        if path.name == CHILD.uuid:
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", fail)
    with pytest.raises(HypervisorError, match="cannot be read"):
        yard.branched.layers_in_use([])


def test_a_child_without_copies_gets_disks_that_are_dropped(yard: Yard) -> None:
    volume = yard.attached()
    branch = yard.branch(volume)
    folder = yard.store.hosts / CHILD.uuid
    folder.mkdir(parents=True)
    (disk,) = yard.branched.disks_of_child(folder, branch, [], CHILD.title, later())
    assert backing(Path(disk.path)) == str(yard.layer(branch))
    assert Path(disk.path).parent == yard.store.hosts / CHILD.uuid
    assert disk.serial == volume.serial
    yard.records[:] = [replace(branch, phase="released")]
    assert yard.branched.layers_in_use(yard.records) == {branch.volumes[0].layer}
    machine = Domain()
    own_disk = f"<disk><source file='{yard.store.hosts / CHILD.uuid}/disk.qcow2'/></disk>"
    machine.attachDeviceFlags(own_disk, LIVE)
    machine.attachDeviceFlags(f"<disk><source file='{disk.path}'/></disk>", LIVE)
    for target, element in zip("ab", machine.xml[LIVE].findall("./devices/disk")[1:], strict=True):
        element.append(parse(f"<target dev='vd{target}'/>"))
    machine.stubborn = 1
    yard.branched.drop(machine, folder, branch, CHILD.title, Deadline(30))
    yard.branched.drop(machine, folder, branch, CHILD.title, Deadline(30))
    assert machine.files(LIVE) == [f"{yard.store.hosts / CHILD.uuid}/disk.qcow2"]
    assert not Path(disk.path).exists()
    assert yard.branched.layers_in_use(yard.records) == set()


def test_a_guest_that_does_not_release_a_disk_is_an_error(yard: Yard) -> None:
    volume = yard.attached()
    branch = yard.branch(volume)
    folder = yard.store.hosts / CHILD.uuid
    folder.mkdir(parents=True)
    (disk,) = yard.branched.disks_of_child(folder, branch, [], CHILD.title, later())
    machine = Domain()
    machine.attachDeviceFlags(f"<disk><source file='{disk.path}'/><target dev='vdb'/></disk>", LIVE)
    machine.stubborn = 1 << 30
    with pytest.raises(DeadlineExceeded, match="did not release"):
        yard.branched.drop(machine, folder, branch, CHILD.title, Deadline(0.5))
    assert Path(disk.path).exists()


def test_the_disk_of_a_twin_is_as_large_as_the_volume(yard: Yard) -> None:
    volume = yard.attached()
    branch = yard.branch(volume)
    folder = yard.store.branches / branch.uuid
    folder.mkdir(parents=True)
    yard.branched.create_scratch(branch, yard.live(), folder, later())
    (scratch,) = folder.iterdir()
    assert virtual_size(scratch) == virtual_size(top(yard.folder(volume)))
    yard.branched.seal(branch, folder)
    assert list(folder.iterdir()) == []
