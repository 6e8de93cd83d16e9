# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of libvirt's templates, to and from artifacts.

The disk of a template lies over its image, so the image belongs to the content. The disk names the
path of the image: that is the only change of a received file.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import Conflict, ImageError, InvalidInput, OutOfSpace
from ...hypervisor.template_files import NewTemplate, TemplateContent
from ...model import codec, naming
from ...model.template import TemplateRecord
from ..common.os_errors import translate_os_error
from ..common.run import run
from . import designer, frozen, machine, orphaned_files
from .domains import Domains
from .images import Images
from .machine import DOMAIN_TYPE, Machine
from .platforms import Platforms
from .store import Store, make
from .xml.element import serialize

PARTS = {"ram": "ram", "state": "state", "disk": frozen.DISK}
IMAGE_PARTS = {
    "image-disk": "disk.qcow2",
    "image-kernel": "vmlinuz",
    "image-initrd": "initrd.img",
    "image-record": "image.json",
}
LARGEST_PART = {"state": 256 << 20, "image-kernel": 256 << 20, "image-initrd": 1 << 30}
LARGEST_RECORD = 1 << 24
# The fields of a qcow2 header (docs/interop/qcow2.txt of QEMU): magic, version, backing file, ...,
# and the incompatible features, of which the third bit means a separate data file.
_HEADER = struct.Struct(">4sIQI")
FEATURES, DATA_FILE = 72, 4


class LibvirtTemplateFiles:
    """The files of the templates of one connection.

    :param registry: the lock of all changes of machines.
    :param prepare: called before a domain is defined.
    """

    kind = "libvirt"

    def __init__(
        self,
        uri: str,
        store: Store,
        domains: Domains,
        images: Images,
        platforms: Platforms,
        registry: Callable[[], AbstractContextManager[None]],
        prepare: Callable[[], None],
    ) -> None:
        self._uri = uri
        self._store = store
        self._domains = domains
        self._images = images
        self._platforms = platforms
        self._registry = registry
        self._prepare = prepare

    def check_export(self, record: TemplateRecord) -> None:
        return

    @contextmanager
    def opened(self, record: TemplateRecord) -> Iterator[TemplateContent]:
        folder = self._store.templates / record.uuid
        frozen.verify(folder, record)
        image_folder = self._store.images / record.image
        files = {name: folder / path for name, path in PARTS.items()}
        files |= {name: image_folder / path for name, path in IMAGE_PARTS.items()}
        properties = codec.to_dict(machine.frozen(self._domains.find(record).XMLDesc(0)))
        with translate_os_error("the files of the template cannot be read.", record.title):
            yield TemplateContent(properties, files)
        # A file that changed in the meantime is in no artifact.
        frozen.verify(folder, record)

    def check(
        self,
        record: TemplateRecord,
        machine: dict[str, Any],
        sizes: Mapping[str, int],
        mode: str = "instant",
    ) -> None:
        _machine_of(machine, record)
        self._platforms.require(record, mode)
        if set(sizes) != {*PARTS, *IMAGE_PARTS}:
            raise _damaged(record, "its files are not those of a template of libvirt")
        if sizes["ram"] != record.hardware.memory_mib << 20:
            raise _damaged(record, f"its memory has {sizes['ram']} bytes")
        limits = {
            **LARGEST_PART,
            "image-record": LARGEST_RECORD,
            **dict.fromkeys(("disk", "image-disk"), (record.disk_gib or 2048) * 3 << 29),
        }
        for name, limit in limits.items():
            if sizes[name] > limit:
                raise _damaged(record, f"its file {name} has {sizes[name]} bytes")
        self._store.prepare()
        # Memory is sparse: half of it is an estimate.
        needed = sum(sizes.values()) - sizes["ram"] // 2
        free = shutil.disk_usage(self._store.root).free
        if needed > free:
            raise OutOfSpace(
                f"the template needs about {needed >> 20} MiB.",
                name=record.title,
                cause=f"the storage has {free >> 20} MiB",
                remedy="free space in the storage",
            )

    @contextmanager
    def receive(
        self, record: TemplateRecord, machine: dict[str, Any], deadline: Deadline
    ) -> Iterator[NewTemplate]:
        properties = _machine_of(machine, record)
        folder = self._store.templates / record.uuid
        self._store.prepare()
        lock = orphaned_files.lock_name(record.owner, record.uuid)
        with (
            translate_os_error("the template cannot be stored.", record.title),
            self._images.receiving(record.image, deadline) as work,
            self._store.lock(lock, deadline),
        ):
            make(folder, record.title)
            try:
                orphaned_files.note(folder, self._uri, record)
                paths: dict[str, Path | None] = {
                    name: folder / path for name, path in PARTS.items()
                }
                for name, path in IMAGE_PARTS.items():
                    paths[name] = work / path if work else None
                incoming = _Incoming(self, record, properties, folder, work, paths)
                yield incoming
            finally:
                if self._domains.find_existing(record) is None:
                    shutil.rmtree(folder, ignore_errors=True)

    def record(
        self, record: TemplateRecord, properties: Machine, folder: Path, deadline: Deadline
    ) -> TemplateRecord:
        """Connect the disk to its image, freeze the files, and define the domain."""
        image = self._images.path(record.image)
        disk = folder / frozen.DISK
        _check_header(disk, record, has_backing=True)
        rebase = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", str(image.disk)]
        run([*rebase, str(disk)], deadline, name=record.title, error=ImageError)
        checked = ["qemu-img", "info", "-f", "qcow2", "--backing-chain", str(disk)]
        run(checked, deadline, name=record.title, error=ImageError)
        checksums = frozen.seal(folder, record.title, self._domains.map_read_only())
        sealed = replace(record, checksums=checksums)
        with self._registry():
            self._prepare()
            if sealed.domain in self._domains.names():
                raise Conflict(
                    "a machine of this name exists.", name=sealed.title, cause=sealed.domain
                )
            definition = designer.frozen_domain(sealed, properties, image, folder)
            self._domains.define(serialize(definition.xml()), sealed.title)
        return sealed

    def publish_image(self, record: TemplateRecord, work: Path) -> None:
        """Store a received image."""
        _check_header(work / "disk.qcow2", record, has_backing=False)
        self._images.publish(work, record.image)


@dataclass
class _Incoming:
    """A template that is being received."""

    store: LibvirtTemplateFiles
    record: TemplateRecord
    machine: Machine
    folder: Path
    work: Path | None
    paths: Mapping[str, Path | None]

    def finish(self, deadline: Deadline) -> TemplateRecord:
        if self.work:
            self.store.publish_image(self.record, self.work)
        return self.store.record(self.record, self.machine, self.folder, deadline)


def _machine_of(properties: dict[str, Any], record: TemplateRecord) -> Machine:
    """Return the machine of an artifact.

    :raises ImageError: if it is not the machine of the record.
    """
    try:
        received = codec.from_dict(Machine, properties, "machine")
        naming.choice("type", received.type, tuple(DOMAIN_TYPE.values()))
        naming.whole("vcpus", received.vcpus, 1, record.hardware.max_vcpus)
        naming.platform_fact("machine", received.machine)
        for feature in received.disabled_features:
            naming.cpu_feature(feature)
    except InvalidInput as error:
        raise _damaged(record, str(error)) from error
    platform = record.platform
    if platform and (
        (received.machine, received.type) != (platform.machine, DOMAIN_TYPE[platform.accelerator])
        or received.cpu_model != record.hardware.cpu.model
    ):
        raise _damaged(record, "its machine is not the one that its record names")
    return received


def _check_header(disk: Path, record: TemplateRecord, *, has_backing: bool) -> None:
    """Refuse a disk that names other files than the one under it."""
    with disk.open("rb") as file:
        header = file.read(FEATURES + 8)
    if len(header) < FEATURES + 8:
        raise _damaged(record, f"{disk.name} is not in QEMU's format")
    magic, version, backing, _length = _HEADER.unpack_from(header)
    if magic != b"QFI\xfb" or version != 3:
        raise _damaged(record, f"{disk.name} is not in QEMU's format")
    (features,) = struct.unpack_from(">Q", header, FEATURES)
    if features & DATA_FILE or bool(backing) != has_backing:
        raise _damaged(record, f"{disk.name} names other files")


def _damaged(record: TemplateRecord, cause: str) -> ImageError:
    return ImageError(
        "the artifact is damaged.",
        name=record.title,
        cause=cause,
        remedy="push or save the template again",
    )
