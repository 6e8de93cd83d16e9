# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of libvirt's templates, from one store to another, with disks as qemu-img creates them."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    Conflict,
    Hardware,
    HypervisorError,
    ImageError,
    OutOfSpace,
    Platform,
    Unsupported,
)
from stockyard.clock import Deadline
from stockyard.hypervisor.records import decode
from stockyard.model import codec
from stockyard.model.observation import SweepResult
from stockyard.model.template import TemplateRecord
from stockyard.providers.libvirt import designer, frozen, orphaned_files
from stockyard.providers.libvirt.images import Images
from stockyard.providers.libvirt.machine import Machine
from stockyard.providers.libvirt.platforms import Platforms
from stockyard.providers.libvirt.store import Store
from stockyard.providers.libvirt.template_files import LibvirtTemplateFiles
from stockyard.providers.libvirt.xml.element import RECORD_NS, parse, serialize
from tests.helpers.samples import template_record

pytestmark = pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img is not installed")
MACHINE = Machine("qemu", 4, "pc-q35-7.2", ("erms", "fsrm"), True, True)
PLATFORM = Platform("7.2.22", "pc-q35-7.2", "tcg", "EPYC", ("vaes",))
IMAGE = "ab" * 32
RECORD = template_record(
    image=IMAGE, hardware=Hardware(memory_mib=512), platform=PLATFORM, disk_gib=1
)
MIB = 1 << 20


class Domain:
    def __init__(self, xml: str) -> None:
        self.xml = xml

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802  # libvirt's name
        return self.xml


class Domains:
    """Domains in memory."""

    def __init__(self) -> None:
        self.defined: dict[str, str] = {}

    def map_read_only(self) -> bool:
        return True

    def find(self, record: TemplateRecord) -> Domain:
        return Domain(self.defined[record.domain])

    def find_existing(self, record: TemplateRecord) -> Domain | None:
        return next((Domain(xml) for xml in self.defined.values() if record.uuid in xml), None)

    def names(self) -> list[str]:
        return list(self.defined)

    def define(self, xml: str, _name: str) -> None:
        self.defined[parse(xml).findtext("name") or ""] = xml


class KnownPlatform(Platforms):
    """A hypervisor of one platform."""

    def __init__(self, platform: Platform) -> None:
        super().__init__(None)
        self.platform = platform

    def _current(self, domain_type: str, machine: str, model: str) -> Platform | None:
        return self.platform


def files_of(folder: Path, platform: Platform = PLATFORM) -> LibvirtTemplateFiles:
    store, domains = Store(folder), Domains()
    store.prepare()
    return LibvirtTemplateFiles(
        "qemu:///session",
        store,
        domains,  # type: ignore[arg-type]  # a replacement
        Images(store),
        KnownPlatform(platform),
        nullcontext,
        lambda: None,
    )


def create(path: Path, *arguments: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *arguments[:-1], path,
                    arguments[-1]], check=True)  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> tuple[LibvirtTemplateFiles, TemplateRecord]:
    """A store with a frozen template."""
    files = files_of(tmp_path / "source")
    image, folder = tmp_path / "source/images" / IMAGE, tmp_path / "source/templates" / RECORD.uuid
    image.mkdir()
    folder.mkdir()
    create(image / "disk.qcow2", "1G")
    for name in ("vmlinuz", "initrd.img"):
        (image / name).write_bytes(name.encode() * 100)
    (image / "image.json").write_text(json.dumps({"versions": {"bash": "5.2"}}))
    create(folder / "disk.qcow2", "-F", "qcow2", "-b", str(image / "disk.qcow2"), "1G")
    write = ["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 64k", str(folder / "disk.qcow2")]
    subprocess.run(write, check=True, capture_output=True)
    with (folder / "ram").open("wb") as ram:
        ram.truncate(512 * MIB)
        ram.seek(300 * MIB)
        ram.write(b"memory")
    (folder / "state").write_bytes(b"state")
    record = replace(RECORD, checksums=frozen.seal(folder, "template"))
    definition = designer.frozen_domain(record, MACHINE, Images(Store(tmp_path / "source")).path(IMAGE), folder)  # fmt: skip  # noqa: E501
    files._domains.define(serialize(definition.xml()), record.title)
    return files, record


def transfer(
    source: tuple[LibvirtTemplateFiles, TemplateRecord],
    target: LibvirtTemplateFiles,
    change: Callable[[dict[str, Path]], None] = lambda _paths: None,
    **changes: Any,
) -> TemplateRecord:
    """Copy a template, as a transfer does."""
    files, record = source
    received = replace(record, uuid=template_record().uuid, checksums=None, **changes)
    deadline = Deadline(60)
    with files.opened(record) as content:
        sizes = {name: path.stat().st_size for name, path in content.files.items()}
        target.check(received, content.machine, sizes)
        with target.receive(received, content.machine, deadline) as incoming:
            written = {}
            for name, path in incoming.paths.items():
                if path:
                    shutil.copyfile(content.files[name], path)
                    written[name] = path
            change(written)
            return incoming.finish(deadline)


def left_over(target: Path) -> list[str]:
    """Return the files of templates and images."""
    return [
        str(path)
        for folder in ("templates", "images")
        for path in (target / folder).rglob("*")
        if path.is_file()
    ]


def test_received_template_lies_over_its_image_and_is_on_record(
    source: tuple[LibvirtTemplateFiles, TemplateRecord], tmp_path: Path
) -> None:
    target = files_of(tmp_path / "target")
    record = transfer(source, target, owner="second")
    folder = tmp_path / "target/templates" / record.uuid
    assert frozen.problem(folder, record) == ""
    root = parse(target._domains.find(record).XMLDesc(0))
    text = root.findtext(f"./metadata/{{{RECORD_NS}}}record") or ""
    assert decode(text) == record
    assert root.findtext("./os/kernel") == str(tmp_path / "target/images" / IMAGE / "vmlinuz")
    with target.opened(record) as content:
        assert codec.from_dict(Machine, content.machine) == MACHINE
    information = ["qemu-img", "info", "--output=json", str(folder / "disk.qcow2")]
    facts = json.loads(subprocess.run(information, check=True, capture_output=True).stdout)
    image_disk = tmp_path / "target/images" / IMAGE / "disk.qcow2"
    assert facts["full-backing-filename"] == str(image_disk)
    read = ["qemu-io", "-r", "-f", "qcow2", "-c", "read -P 7 1M 64k", str(folder / "disk.qcow2")]
    subprocess.run(read, check=True, capture_output=True)
    assert (folder / "ram").stat().st_size == 512 * MIB
    assert Images(Store(tmp_path / "target")).versions(IMAGE) == {"bash": "5.2"}
    # A second template of the image needs no other copy of it.
    other_record = transfer(source, target, name="another")
    assert other_record.uuid != record.uuid


def test_template_that_exists_is_not_received_again(
    source: tuple[LibvirtTemplateFiles, TemplateRecord], tmp_path: Path
) -> None:
    target = files_of(tmp_path / "target")
    record = transfer(source, target)
    with pytest.raises(Conflict, match="machine of this name exists"):
        transfer(source, target)
    assert [path.name for path in (tmp_path / "target/templates").iterdir()] == [record.uuid]


def damage_magic(paths: dict[str, Path]) -> None:
    paths["disk"].write_bytes(b"raw" * 1000)


def name_another_file(paths: dict[str, Path]) -> None:
    paths["image-disk"].unlink()
    create(paths["image-disk"], "-F", "raw", "-b", "/etc/passwd", "1G")


def name_a_data_file(paths: dict[str, Path]) -> None:
    paths["image-disk"].unlink()
    data = paths["image-disk"].with_name("data")
    create(paths["image-disk"], "-o", f"data_file={data},data_file_raw=on", "1M")


def omit_backing(paths: dict[str, Path]) -> None:
    paths["disk"].unlink()
    create(paths["disk"], "1G")


def shorten(paths: dict[str, Path]) -> None:
    paths["disk"].write_bytes(paths["disk"].read_bytes()[:40])


@pytest.mark.parametrize(
    "change", [damage_magic, name_another_file, name_a_data_file, omit_backing, shorten]
)
def test_disk_that_names_other_files_is_refused_and_nothing_remains(
    source: tuple[LibvirtTemplateFiles, TemplateRecord],
    tmp_path: Path,
    change: Callable[[dict[str, Path]], None],
) -> None:
    target = files_of(tmp_path / "target")
    with pytest.raises(ImageError, match="damaged"):
        transfer(source, target, change)
    remaining = [path for path in left_over(tmp_path / "target") if f"/images/{IMAGE}/" not in path]
    assert remaining == []
    assert not list(target._domains.names())


def test_failure_during_the_transfer_leaves_nothing(
    source: tuple[LibvirtTemplateFiles, TemplateRecord], tmp_path: Path
) -> None:
    def fail(_paths: dict[str, Path]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfer(source, files_of(tmp_path / "target"), fail)
    assert left_over(tmp_path / "target") == []


def test_storage_that_becomes_full_during_the_transfer_is_reported(
    source: tuple[LibvirtTemplateFiles, TemplateRecord], tmp_path: Path
) -> None:
    def fill(_paths: dict[str, Path]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutOfSpace, match="template cannot be stored"):
        transfer(source, files_of(tmp_path / "target"), fill)
    assert left_over(tmp_path / "target") == []
    files, record = source
    (tmp_path / "source/images" / IMAGE / "vmlinuz").unlink()
    with pytest.raises(HypervisorError, match="cannot be read"), files.opened(record) as content:
        content.files["image-kernel"].stat()


def test_files_of_a_transfer_that_goes_on_are_no_orphans(
    source: tuple[LibvirtTemplateFiles, TemplateRecord], tmp_path: Path
) -> None:
    target = files_of(tmp_path / "target")
    results: list[SweepResult] = []

    def reap(_paths: dict[str, Path]) -> None:
        store, images, domains = target._store, target._images, orphaned_files.Domains((), (), ())
        uri, owner = "qemu:///session", RECORD.owner
        results.append(orphaned_files.sweep(store, images, domains, uri, owner, 0.0, check=False))

    record = transfer(source, target, reap)
    assert [(item.path, item.reason) for item in results[0].skipped] == [
        (str(tmp_path / "target/templates" / record.uuid), "a controller receives the template")
    ]
    assert results[0].removed == ()


def test_other_platform_is_refused_before_anything_is_stored(
    source: tuple[LibvirtTemplateFiles, TemplateRecord], tmp_path: Path
) -> None:
    for platform in (
        replace(PLATFORM, cpu_model="Nehalem"),
        replace(PLATFORM, emulator="7.2.1"),
        replace(PLATFORM, machine=""),
    ):
        target = files_of(tmp_path / "target", platform)
        with pytest.raises(Unsupported, match="cannot resume the memory"):
            transfer(source, target)
        assert left_over(tmp_path / "target") == []


@pytest.mark.parametrize(
    ("sizes", "machine"),
    [
        ({"ram": 511 * MIB}, {}),
        ({"ram": 1 << 43}, {}),
        ({"state": 1 << 40}, {}),
        ({"disk": 1 << 40}, {}),
        ({"image-record": 1 << 30}, {}),
        ({"other": 1}, {}),
        ({}, {"type": "xen"}),
        ({}, {"machine": "pc-q35-9.0"}),
        ({}, {"machine": "x' y='z"}),
        ({}, {"vcpus": 999}),
        ({}, {"cpu_model": "Nehalem"}),
        ({}, {"disabled_features": ["<x/>"]}),
        ({}, {"unknown": 1}),
    ],
)
def test_impossible_content_is_refused_before_anything_is_stored(
    source: tuple[LibvirtTemplateFiles, TemplateRecord],
    tmp_path: Path,
    sizes: dict[str, int],
    machine: dict[str, Any],
) -> None:
    files, record = source
    target = files_of(tmp_path / "target")
    with files.opened(record) as content:
        real = {name: path.stat().st_size for name, path in content.files.items()}
        target.check(record, content.machine, real)
        with pytest.raises(ImageError, match="artifact is damaged"):
            target.check(record, {**content.machine, **machine}, {**real, **sizes})


def test_storage_without_space_is_refused(
    source: tuple[LibvirtTemplateFiles, TemplateRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = type("Usage", (), {"free": 10 * MIB})
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(OutOfSpace, match="10 MiB"):
        transfer(source, files_of(tmp_path / "target"))
    assert left_over(tmp_path / "target") == []


def test_template_whose_files_changed_is_not_sent(
    source: tuple[LibvirtTemplateFiles, TemplateRecord], tmp_path: Path
) -> None:
    files, record = source
    ram = tmp_path / "source/templates" / record.uuid / "ram"
    with pytest.raises(ImageError, match="damaged"), files.opened(record), ram.open("r+b") as file:
        file.write(b"changed")
