# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes on libvirt: layers that go with the last disk on them, disks that are whole at any
instant, and plugs.
"""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard.clock import Deadline
from stockyard.errors import Conflict, HypervisorError, OperationRefused, Unsupported
from stockyard.model.volume import Attachment, VolumeRecord
from stockyard.providers.libvirt import layers, volumes
from stockyard.providers.libvirt.layers import EQUAL, backing, virtual_size
from stockyard.providers.libvirt.store import Store
from stockyard.providers.libvirt.volumes import LibvirtVolumes
from stockyard.providers.libvirt.xml.element import parse, serialize
from tests.helpers.samples import host_record

URI = "qemu:///session"


def later() -> Deadline:
    """Time enough, from now on."""
    return Deadline(60)


LIVE, CONFIG = 1, 2
HOST = host_record()


def qcow2(path: Path, base: str, size: int) -> None:
    """A disk of a header and a name, and what was written to it last."""
    name = base.encode()
    head = struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 104 if base else 0, len(name), 16, size)
    path.write_bytes(head.ljust(104, b"\0") + name)


def qemu_img(argv: Sequence[str], _deadline: Deadline, *, name: str) -> str:
    """A stand-in for the program."""
    words = list(argv)
    if words[1] == "resize":
        data = bytearray(Path(words[-2]).read_bytes())
        struct.pack_into(">Q", data, 24, int(words[-1][:-1]) << 30)
        Path(words[-2]).write_bytes(bytes(data))
        return ""
    base = words[words.index("-b") + 1] if "-b" in words else ""
    sized = words[-1] if words[-1].endswith("G") else ""
    target = Path(words[-2] if sized else words[-1])
    qcow2(target, base, int(sized[:-1]) << 30 if sized else virtual_size(Path(base)))
    return ""


class Domain:
    """A machine with its two definitions."""

    def __init__(self) -> None:
        self.active = True
        self.xml = {how: parse("<domain><devices/></domain>") for how in (LIVE, CONFIG)}
        self.stubborn = 0
        self.resized: list[tuple[str, int]] = []
        for root in self.xml.values():
            self._devices(root).append(parse("<disk><target dev='vda'/></disk>"))

    @staticmethod
    def _devices(root: Any) -> Any:
        return root.find("devices")

    def isActive(self) -> bool:  # noqa: N802  # libvirt's name
        return self.active

    def XMLDesc(self, flags: int) -> str:  # noqa: N802  # libvirt's name
        return serialize(self.xml[CONFIG if flags else LIVE])

    def attachDeviceFlags(self, xml: str, flags: int) -> None:  # noqa: N802  # libvirt's name
        self._devices(self.xml[flags]).append(parse(xml))

    def detachDeviceFlags(self, xml: str, flags: int) -> None:  # noqa: N802  # libvirt's name
        if flags == LIVE and self.stubborn:
            self.stubborn -= 1
            return
        file = parse(xml).find("source").get("file")  # type: ignore[union-attr]
        devices = self._devices(self.xml[flags])
        for disk in devices.findall("disk"):
            source = disk.find("source")
            if source is not None and source.get("file") == file:
                devices.remove(disk)

    # libvirt's name
    def blockResize(self, path: str, size: int, _flags: int) -> None:  # noqa: N802
        self.resized.append((path, size))

    def files(self, how: int) -> list[str]:
        return [s.attrib["file"] for s in self.xml[how].findall("./devices/disk/source")]


class Domains:
    def __init__(self) -> None:
        self.domain = Domain()

    def find(self, _record: Any) -> Domain:
        return self.domain

    def find_existing(self, _record: Any) -> Domain:
        return self.domain

    def read_all(self) -> tuple[list[Any], list[Any]]:
        return [(HOST, "running")], []


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LibvirtVolumes:
    pytest.importorskip("libvirt")
    for module in (layers, volumes):
        monkeypatch.setattr(module, "run", qemu_img)
    monkeypatch.setattr(volumes, "INSIST", 0.2)
    opened = Store(tmp_path / "store")
    return LibvirtVolumes(opened, Domains(), URI, lambda: opened.lock("registry", later()))  # type: ignore[arg-type]


def draft(**changes: Any) -> VolumeRecord:
    own = str(uuid.uuid4())
    return replace(
        VolumeRecord("stockyard", "default", f"v-{own[:8]}", own, 1, "creating", 1.0), **changes
    )


def made(store: LibvirtVolumes, source: VolumeRecord | None = None, **changes: Any) -> VolumeRecord:
    record = draft(**changes)
    store.create(record, source, later())
    return store.claim(record, phase="ready")


def disk(store: LibvirtVolumes, record: VolumeRecord) -> Path:
    return store.files.path(record) / "disk.qcow2"


def kept(store: LibvirtVolumes) -> set[str]:
    return {p.name for p in store.layers.folder.glob("*")}


def test_copies_share_one_layer_until_the_source_is_written(store: LibvirtVolumes) -> None:
    golden = made(store)
    copies = [made(store, golden) for _n in range(10)]
    assert len(kept(store)) == 1
    (layer,) = store.layers.folder.iterdir()
    assert {backing(disk(store, c)) for c in [golden, *copies]} == {str(layer)}
    assert layer.stat().st_mode & 0o777 == 0o400
    held = store.claim(golden, attachment=Attachment(HOST.uuid, HOST.name, "/data"))
    store.plug(HOST, held, later())
    assert not (disk(store, golden).parent / EQUAL).exists()
    golden = store.claim(held, attachment=None)
    made(store, golden)
    assert len(kept(store)) == 2


def test_layer_is_deleted_with_its_last_disk(store: LibvirtVolumes) -> None:
    golden = made(store)
    snapshot = made(store, golden, snapshot=True)
    copy = made(store, snapshot)
    (disk(store, copy).parent / EQUAL).unlink()
    grandchild = made(store, copy)
    assert len(kept(store)) == 2
    for record, remaining in ((golden, 2), (snapshot, 2), (copy, 2), (grandchild, 0)):
        store.destroy(record)
        assert len(kept(store)) == remaining


def test_copy_has_the_declared_size(store: LibvirtVolumes) -> None:
    golden = made(store, size_gib=2)
    assert virtual_size(disk(store, golden)) == 2 << 30
    assert virtual_size(disk(store, made(store, golden, size_gib=5))) == 5 << 30
    assert virtual_size(disk(store, golden)) == 2 << 30


def test_no_layer_is_deleted_while_a_disk_cannot_be_read(store: LibvirtVolumes) -> None:
    golden = made(store)
    copy, second = made(store, golden), made(store)
    harms: tuple[Callable[[], object], ...] = (
        lambda: disk(store, second).write_bytes(b"no disk"),
        lambda: (store.files.path(second) / "volume.json").write_text("{"),
    )
    for harm in harms:
        harm()
        assert store.sweep("stockyard", 0.0).removed == ()
    store.destroy(golden)
    store.destroy(copy)
    assert len(kept(store)) == 1


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[list[str]]:
    """Die before the n-th change of the file system from now."""
    steps: list[str] = []

    def watched(name: str, real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            # The kernel frees the lock of who dies in earnest.
            if not str(arguments[0]).endswith(".lock"):
                steps.append(name)
            if len(steps) == at:
                steps.append("dead")
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for module, name in (
            (os, "link"),
            (os, "replace"),
            (Path, "unlink"),
            (Path, "chmod"),
            (Path, "write_text"),
        ):
            patch.setattr(module, name, watched(name, getattr(module, name)))
        patch.setattr(layers, "run", watched("run", qemu_img))
        yield steps


@pytest.mark.parametrize("at", range(1, 16))
def test_source_is_intact_whenever_its_copier_dies(
    store: LibvirtVolumes, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    golden = made(store)
    inode = disk(store, golden).stat().st_ino
    died = False
    with dying(monkeypatch, at):
        try:
            store.create(draft(), golden, later())
        except KeyboardInterrupt:
            died = True
    # Its content is in its disk, or in the layer under it.
    own_disk = disk(store, golden)
    base = backing(own_disk) if own_disk.stat().st_ino != inode else ""
    assert (Path(base) if base else own_disk).stat().st_ino == inode
    assert own_disk.stat().st_mode & 0o200
    for half in store.observe("stockyard").volumes:
        if half.phase == "creating":
            store.destroy(half)
    copy = made(store, golden)
    assert Path(backing(disk(store, copy))).exists()
    store.destroy(copy)
    store.destroy(golden)
    store.sweep("stockyard", 0.0)
    assert kept(store) == set()
    assert list(store.files.folder.iterdir()) == []
    assert died or at > 8


def test_volume_is_attached_to_the_live_and_the_stored_machine(store: LibvirtVolumes) -> None:
    domain = store.domains.domain  # type: ignore[attr-defined]
    data, scratch = made(store), made(store)
    for record in (data, data, scratch, scratch):
        store.plug(HOST, record, later())
    files = [str(disk(store, r)) for r in (data, scratch)]
    assert domain.files(LIVE) == domain.files(CONFIG) == files
    targets = [t.get("dev") for t in domain.xml[LIVE].findall("./devices/disk/target")]
    assert targets == ["vda", "vdb", "vdc"]
    (first, _second) = domain.xml[LIVE].findall("./devices/disk/driver")
    assert first.get("discard") == "unmap"
    assert domain.xml[LIVE].find("./devices/disk/serial").text == data.serial
    domain.stubborn = 1
    store.unplug(HOST, data, Deadline(30))
    store.unplug(HOST, data, later())
    assert domain.files(LIVE) == domain.files(CONFIG) == files[1:]


def test_one_that_was_only_half_plugged_in_is_plugged_in_whole(store: LibvirtVolumes) -> None:
    domain, volume = store.domains.domain, made(store)  # type: ignore[attr-defined]
    store.plug(HOST, volume, later())
    domain.detachDeviceFlags(f"<disk><source file='{disk(store, volume)}'/></disk>", CONFIG)
    store.plug(HOST, volume, later())
    assert domain.files(LIVE) == domain.files(CONFIG) == [str(disk(store, volume))]


def test_missing_pci_port_is_reported(
    store: LibvirtVolumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    import libvirt

    def full(_xml: str, _flags: int) -> None:
        raise libvirt.libvirtError("internal error: No more available PCI slots")

    monkeypatch.setattr(store.domains.domain, "attachDeviceFlags", full)  # type: ignore[attr-defined]
    with pytest.raises(Unsupported, match="spare_ports"):
        store.plug(HOST, made(store), later())


def test_attached_volume_grows(store: LibvirtVolumes) -> None:
    domain, volume = store.domains.domain, made(store)  # type: ignore[attr-defined]
    store.grow(volume, 2, later())
    assert virtual_size(disk(store, volume)) == 2 << 30
    held = store.claim(volume, attachment=Attachment(HOST.uuid, HOST.name, "/data"))
    store.plug(HOST, held, later())
    store.grow(held, 3, later())
    assert domain.resized == [(str(disk(store, volume)), 3 << 30)]


def test_missing_disk_is_an_error_and_is_not_created_again(store: LibvirtVolumes) -> None:
    volume = made(store)
    disk(store, volume).unlink()
    with pytest.raises(HypervisorError, match="is missing"):
        store.plug(HOST, volume, later())


def test_attached_volume_is_not_copied(store: LibvirtVolumes) -> None:
    held = store.claim(made(store), attachment=Attachment(HOST.uuid, HOST.name, "/data"))
    with pytest.raises(OperationRefused, match=HOST.name):
        store.create(draft(), held, later())
    with pytest.raises(Conflict):
        store.claim(replace(held, version=1), attachment=None)
