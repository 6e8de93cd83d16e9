# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes on libvirt: sparse qcow2 disks in the store, attached and detached at run time."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from ...clock import Deadline
from ...errors import DeadlineExceeded, HypervisorError, OperationRefused, Unsupported
from ...files import flush, write_atomic
from ...hypervisor.facts import VolumeFacts
from ...model.host import HostRecord
from ...model.observation import OrphanedFile, SweepResult, VolumeObservation
from ...model.volume import VolumeRecord
from ..common.os_errors import translate_os_error
from ..common.volume_files import VolumeFiles
from . import faults
from .domains import Domains
from .layers import DISK, EQUAL, GIB, SNAPSHOT, Layers, backing, virtual_size
from .run import run
from .store import Store
from .xml.devices import Disk
from .xml.element import Element, parse, serialize

POLL = 0.1
# Seconds until the request is repeated to a guest that did not release a disk.
INSIST = 10.0
NO_ROOM = "No more available PCI slots"
PENDING = "already in the process of unplug"


class LibvirtVolumes:
    """The volumes of one store.

    :param lock: the store's lock, under which records change.
    """

    def __init__(
        self,
        store: Store,
        domains: Domains,
        uri: str,
        lock: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.domains = domains
        self.lock = lock
        self.files = VolumeFiles(store.root / "volumes", uri, lock)
        self.layers = Layers(store.root / "layers")

    def observe(self, owner: str) -> VolumeObservation:
        return self.files.observe(owner)

    def create(self, record: VolumeRecord, source: VolumeRecord | None, deadline: Deadline) -> None:
        with self.lock():
            layer = self._layer(source, deadline) if source else ""
            folder = self.files.add(record)
            with translate_os_error("the volume's disk cannot be created.", record.title):
                if record.snapshot:
                    write_atomic(folder / SNAPSHOT, layer)
                elif layer:
                    self.layers.overlay(
                        folder / DISK, layer, record.size_gib, record.title, deadline
                    )
                    write_atomic(folder / EQUAL, layer)
                else:
                    command = [
                        "qemu-img",
                        "create",
                        "-q",
                        "-f",
                        "qcow2",
                        str(folder / DISK),
                        f"{record.size_gib}G",
                    ]
                    run(command, deadline, name=record.title)
                if not record.snapshot:
                    flush(folder / DISK)

    def claim(self, record: VolumeRecord, **changes: Any) -> VolumeRecord:
        return self.files.claim(record, **changes)

    def grow(self, record: VolumeRecord, size_gib: int, deadline: Deadline) -> None:
        disk = self._disk(record)
        domain = self._running(record.attachment.uuid) if record.attachment else None
        if domain and self._place(domain, disk) is not None:
            import libvirt

            with faults.translated("resize the disk in its machine", record.title):
                domain.blockResize(str(disk), size_gib * GIB, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        elif virtual_size(disk) < size_gib * GIB:
            run(
                ["qemu-img", "resize", "-q", "-f", "qcow2", str(disk), f"{size_gib}G"],
                deadline,
                name=record.title,
            )

    def plug(self, host: HostRecord, record: VolumeRecord, deadline: Deadline) -> None:
        import libvirt

        domain, disk = self.domains.find(host), self._disk(record)
        # From here on the volume may differ from its layer.
        (disk.parent / EQUAL).unlink(missing_ok=True)
        for flags, xml_flags in (
            (libvirt.VIR_DOMAIN_AFFECT_LIVE, 0),
            (libvirt.VIR_DOMAIN_AFFECT_CONFIG, libvirt.VIR_DOMAIN_XML_INACTIVE),
        ):
            with faults.translated("read the domain", host.title):
                definition = parse(domain.XMLDesc(xml_flags))
            if _disk_of(definition, disk) is None:
                device = Disk(str(disk), _target(definition), record.serial, discard=True)
                self._attach(domain, serialize(device.xml()), flags, host.title)

    def unplug(self, host: HostRecord, record: VolumeRecord, deadline: Deadline) -> None:
        import libvirt

        domain, disk = self.domains.find(host), self._disk(record)
        with faults.translated("detach the disk from the machine", host.title):
            stored_element = _disk_of(parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)), disk)
            if stored_element is not None:
                domain.detachDeviceFlags(
                    serialize(stored_element), libvirt.VIR_DOMAIN_AFFECT_CONFIG
                )
        while domain.isActive() and (live_element := self._place(domain, disk)) is not None:
            self._insist(domain, live_element, disk, host.title, deadline)

    def destroy(self, record: VolumeRecord) -> None:
        with self.lock():
            if self.files.remove(record):
                self._prune()

    def sweep(self, owner: str, older_than: float, *, check: bool = False) -> SweepResult:
        with self.lock():
            result = self.files.sweep(older_than, check=check)
            unused = self._unused()
            for path in () if check else unused:
                path.unlink(missing_ok=True)
        return SweepResult(
            (
                *result.removed,
                *(OrphanedFile(str(layer), "no volume uses it") for layer in unused),
            ),
            result.skipped,
        )

    def facts(self, record: VolumeRecord) -> VolumeFacts:
        disk = self.files.path(record) / DISK
        allocated_bytes = disk.stat().st_blocks * 512 if disk.exists() else 0
        return VolumeFacts("" if record.snapshot else str(disk), allocated_bytes, _beneath(disk))

    def _layer(self, source: VolumeRecord, deadline: Deadline) -> str:
        """Return the layer with the present content of the source.

        Call it under the lock: no host attaches the source then.
        """
        stored_record = self.files.find(source)
        if stored_record.attachment:
            raise OperationRefused(
                "the volume cannot be copied: it is attached to host "
                f"{stored_record.attachment.host}.",
                name=source.title,
                remedy=f"detach it from {stored_record.attachment.host}, or copy an earlier "
                "snapshot",
            )
        return self.layers.of(self.files.path(source), source.title, deadline)

    def _disk(self, record: VolumeRecord) -> Path:
        self.files.find(record)
        disk = self.files.path(record) / DISK
        if not disk.exists():
            raise HypervisorError(
                "the volume's disk is missing.",
                name=record.title,
                cause=str(disk),
                remedy="restore the disk from a backup, or delete the volume",
            )
        return disk

    def _running(self, uuid: str) -> Any | None:
        """Return the domain of the host that a volume is attached to, if it runs."""
        records = [record for record, _state in self.domains.read_all()[0] if record.uuid == uuid]
        domain = self.domains.find_existing(records[0]) if records else None
        return domain if domain is not None and domain.isActive() else None

    def _place(self, domain: Any, disk: Path) -> Element | None:
        with faults.translated("read the domain"):
            return _disk_of(parse(domain.XMLDesc(0)), disk)

    def _attach(self, domain: Any, xml: str, flags: int, name: str) -> None:
        try:
            with faults.translated("attach the disk to the machine", name):
                domain.attachDeviceFlags(xml, flags)
        except HypervisorError as error:
            if NO_ROOM not in error.cause:
                raise
            raise Unsupported(
                "the machine has no free port for a volume.",
                name=name,
                cause="each volume uses a spare port of the template",
                remedy="raise spare_ports of the template, which leads to a new generation",
            ) from error

    def _insist(
        self, domain: Any, disk_element: Element, disk: Path, name: str, deadline: Deadline
    ) -> None:
        """Request the guest to release a disk, and wait a limited time for it."""
        import libvirt

        try:
            with faults.translated("detach the disk from the machine", name):
                domain.detachDeviceFlags(serialize(disk_element), libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except HypervisorError as error:
            # An earlier request is still pending, or the guest has just released the disk.
            if PENDING not in error.cause and self._place(domain, disk) is not None:
                raise
        patience = deadline.within(INSIST)
        while self._place(domain, disk) is not None:
            if deadline.passed():
                raise DeadlineExceeded(
                    f"the guest did not release {disk} within {deadline.seconds:g} s.",
                    name=name,
                    remedy="run again, or restart the host",
                )
            if patience.passed():
                return
            patience.pause(POLL)

    def _prune(self) -> None:
        for path in self._unused():
            path.unlink(missing_ok=True)

    def _unused(self) -> list[Path]:
        """Return the layers to delete: none if any volume, of any owner, cannot be read."""
        if self.files.read_all()[1] or not self.files.folder.is_dir():
            return []
        try:
            return self.layers.unused(
                sorted(folder for folder in self.files.folder.iterdir() if folder.is_dir())
            )
        except HypervisorError:
            return []


def _disk_of(domain: Element, disk: Path) -> Element | None:
    """Return the element of a disk in a domain's definition."""
    for disk_element in domain.findall("./devices/disk"):
        source = disk_element.find("source")
        if source is not None and source.get("file") == str(disk):
            return disk_element
    return None


def _target(domain: Element) -> str:
    """Return an unused device name for another disk. The guest chooses its own name."""
    used_names = {target.get("dev") for target in domain.findall("./devices/disk/target")}
    return next(name for letter in ascii_lowercase if (name := f"vd{letter}") not in used_names)


def _beneath(disk: Path) -> int:
    """Return the space that the layers under a disk use, in bytes; other volumes may share them."""
    used_bytes = 0
    while disk.exists() and (name := backing(disk)):
        disk = Path(name)
        used_bytes += os.stat(disk).st_blocks * 512 if disk.exists() else 0
    return used_bytes
