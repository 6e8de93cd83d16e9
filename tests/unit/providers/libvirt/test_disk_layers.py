# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers under the disks of branched hosts, with headers of real qcow2 disks."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from stockyard.errors import HypervisorError
from stockyard.providers.libvirt import disk_layers
from stockyard.providers.libvirt.disk_layers import DiskLayers
from stockyard.providers.libvirt.xml.element import parse

LIVE = """
<domain><devices>
  <disk><source file="/h/disk-2.qcow2"/>
    <backingStore><source file="/h/disk.qcow2"/>
      <backingStore><source file="/t/disk.qcow2"/></backingStore></backingStore>
    <target dev="vda"/></disk>
  <disk><source file="/v/disk.qcow2"/><target dev="vdb"/></disk>
</devices></domain>
"""


def disk(path: Path, backing: Path | None = None) -> Path:
    """The header of a qcow2 disk (docs/interop/qcow2.txt): magic, version, backing file."""
    name = str(backing).encode() if backing else b""
    offset = 1024 if name else 0
    header = struct.pack(">4sIQI", b"QFI\xfb", 3, offset, len(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.ljust(1024, b"\0") + name)
    return path


@pytest.fixture
def layers(tmp_path: Path) -> DiskLayers:
    return DiskLayers(tmp_path / "layers")


def branched(layers: DiskLayers, parent: Path, name: str, template: Path) -> Path:
    """The overlay of a parent after a branch."""
    top = parent if parent.exists() else disk(parent, template)
    layer = layers.add(name, top)
    return disk(parent.with_name(f"disk-{name}.qcow2"), layer)


def test_layer_is_kept_while_a_disk_lies_over_it(layers: DiskLayers, tmp_path: Path) -> None:
    template = disk(tmp_path / "template/disk.qcow2")
    top = branched(layers, tmp_path / "parent/disk.qcow2", "one", template)
    child = disk(tmp_path / "child/disk.qcow2", layers.path("one"))
    assert layers.unused([top, child], []) == []
    assert layers.unused([top], []) == []
    assert layers.unused([child], []) == []
    assert layers.unused([], ["one"]) == []
    assert layers.unused([], []) == [layers.path("one")]


def test_a_layer_under_another_layer_lives_too(layers: DiskLayers, tmp_path: Path) -> None:
    template = disk(tmp_path / "template/disk.qcow2")
    first = branched(layers, tmp_path / "parent/disk.qcow2", "one", template)
    second = branched(layers, first, "two", template)
    assert layers.depth(second) == 2
    assert layers.depth(first) == 1
    assert layers.unused([second], []) == []
    # The parent's chain was shortened.
    disk(second, template)
    assert layers.depth(second) == 0
    assert layers.unused([second], []) == [layers.path("one"), layers.path("two")]
    assert layers.unused([second], ["two"]) == []


def test_a_layer_does_not_need_the_directory_of_its_parent(
    layers: DiskLayers, tmp_path: Path
) -> None:
    template = disk(tmp_path / "template/disk.qcow2")
    top = branched(layers, tmp_path / "parent/disk.qcow2", "one", template)
    child = disk(tmp_path / "child/disk.qcow2", layers.path("one"))
    for path in (top, top.with_name("disk.qcow2")):
        path.unlink()
    assert list(disk_layers.chain(child)) == [layers.path("one"), template]


def test_layers_are_kept_while_a_disk_cannot_be_read(layers: DiskLayers, tmp_path: Path) -> None:
    branched(layers, tmp_path / "parent/disk.qcow2", "one", disk(tmp_path / "t.qcow2"))
    damaged = tmp_path / "other.qcow2"
    damaged.write_bytes(b"")
    with pytest.raises(HypervisorError, match="disk"):
        layers.unused([damaged], [])


def test_a_circle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    disk(path, path)
    with pytest.raises(HypervisorError, match="circle"):
        list(disk_layers.chain(path))


def test_the_disk_of_a_machine_is_the_first_file_of_its_own_disk() -> None:
    definition = parse(LIVE)
    assert disk_layers.top(definition) == Path("/h/disk-2.qcow2")
    assert disk_layers.sources(definition)[1:] == [Path("/h/disk.qcow2"), Path("/t/disk.qcow2")]
    with pytest.raises(HypervisorError, match="no disk"):
        disk_layers.top(parse("<domain><devices/></domain>"))


def test_a_snapshot_names_a_file_for_each_disk() -> None:
    """libvirt would choose a file for a disk that is not listed."""
    overlays = {"vda": Path("/h/disk-3.qcow2"), "vdb": Path("/v/disk-3.qcow2")}
    root = parse(disk_layers.snapshot(overlays))
    assert [node.attrib for node in root.iter("disk")] == [
        {"name": name, "snapshot": "external", "type": "file"} for name in ("vda", "vdb")
    ]
    assert [node.attrib for node in root.iter("source")] == [
        {"file": "/h/disk-3.qcow2"},
        {"file": "/v/disk-3.qcow2"},
    ]
