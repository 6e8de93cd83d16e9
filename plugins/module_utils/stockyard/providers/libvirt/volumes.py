# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes on libvirt: sparse qcow2 disks in the store, attached and detached at run time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from ...clock import Deadline
from ...errors import (
    DeadlineExceeded,
    HypervisorError,
    InvalidInput,
    OperationRefused,
    Unsupported,
)
from ...files import flush, write_atomic
from ...hypervisor.facts import VolumeFacts
from ...model.branch import BranchVolume
from ...model.host import HostRecord
from ...model.observation import OrphanedFile, SweepResult, VolumeObservation
from ...model.volume import VolumeRecord
from ..common.os_errors import translate_os_error
from ..common.run import run
from ..common.volume_files import VolumeFiles
from . import faults
from .disk_layers import disk_with
from .domains import Domains
from .layers import (
    DISK,
    DISKS,
    EQUAL,
    GIB,
    SNAPSHOT,
    Layers,
    backing,
    overlay_of,
    top,
    virtual_size,
)
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
    :param branched_layers: returns the layers of branches, from which hosts can still be forked.
    """

    def __init__(
        self,
        store: Store,
        domains: Domains,
        uri: str,
        lock: Callable[[], AbstractContextManager[None]],
        branched_layers: Callable[[], set[str]] = set,
    ) -> None:
        self.domains = domains
        self.lock = lock
        self.branched_layers = branched_layers
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
        live_element = self._place(domain, disk.parent) if domain else None
        if domain and live_element is not None:
            import libvirt

            with faults.translated("resize the disk in its machine", record.title):
                domain.blockResize(
                    _file(live_element), size_gib * GIB, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES
                )
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
            if disk_of(definition, disk.parent) is None:
                device = Disk(str(disk), _target(definition), record.serial, discard=True)
                self._attach(domain, serialize(device.xml()), flags, host.title)

    def unplug(self, host: HostRecord, record: VolumeRecord, deadline: Deadline) -> None:
        import libvirt

        domain, folder = self.domains.find(host), self._disk(record).parent
        with faults.translated("detach the disk from the machine", host.title):
            stored_element = disk_of(parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)), folder)
            if stored_element is not None:
                domain.detachDeviceFlags(
                    serialize(stored_element), libvirt.VIR_DOMAIN_AFFECT_CONFIG
                )
        while domain.isActive() and (live_element := self._place(domain, folder)) is not None:
            self.insist(domain, live_element, host.title, deadline)

    def branch(
        self, volume: BranchVolume, disk: Path, branch: str, title: str, deadline: Deadline
    ) -> Path:
        """Give a volume of a running host a layer with the name in the branch's record; return the
        overlay in which the host continues.

        :param disk: the file that the host writes to now.
        :param branch: the uuid of the branch.
        """
        with self.lock(), translate_os_error("the volume cannot be branched.", title):
            overlay = self.layers.branch(
                self.files.folder / volume.uuid, disk, volume.layer, branch, title, deadline
            )
            flush(overlay)
        return overlay

    def copy(self, record: VolumeRecord, layer: str, deadline: Deadline) -> None:
        """Record a volume whose disk lies over a layer. A host writes to it at once."""
        with self.lock():
            folder = self.files.add(record)
            with translate_os_error("the volume's disk cannot be created.", record.title):
                self.layers.overlay(folder / DISK, layer, 0, record.title, deadline)
                flush(folder / DISK)

    def remove_overlay(self, volume: BranchVolume, branch: str, files: Iterable[Path]) -> None:
        """Delete the overlay of a branch if the machine of the branched host uses another file of
        the volume.

        :param branch: the uuid of the branch.
        :param files: the files that the machine uses, according to its definitions.
        """
        overlay = overlay_of(self.files.folder / volume.uuid, branch)
        own_files = [path for path in files if path.parent == overlay.parent]
        if own_files and overlay not in own_files:
            overlay.unlink(missing_ok=True)

    def remove_former_names(self, volume: BranchVolume, files: Iterable[Path]) -> None:
        """Delete the names of former disks of a volume that is plugged into the machine of its
        host. Their content stays in layers.

        :param files: the files that the machine uses, with those under its disks, according to its
            definitions.
        """
        folder = self.files.folder / volume.uuid
        own_files = [path for path in files if path.parent == folder]
        for path in folder.glob(DISKS) if own_files else ():
            if path not in own_files:
                path.unlink()

    def prune(self) -> None:
        """Delete the layers that no volume and no branch uses. Call it under the lock."""
        for path in self._unused():
            path.unlink(missing_ok=True)

    def destroy(self, record: VolumeRecord) -> None:
        with self.lock():
            if self.files.remove(record):
                self.prune()

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
        disk = top(self.files.path(record))
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
        """Return the file of a volume that its machine writes to, or the next one will.

        :raises HypervisorError: if it is missing.
        """
        self.files.find(record)
        folder = self.files.path(record)
        disk = self._attached_disk(record, folder) or top(folder)
        if not disk.exists():
            raise HypervisorError(
                "the volume's disk is missing.",
                name=record.title,
                cause=str(disk),
                remedy="restore the disk from a backup, or delete the volume",
            )
        return disk

    def _attached_disk(self, record: VolumeRecord, folder: Path) -> Path | None:
        """Return the file of a volume that the machine of its host uses, if it uses one."""
        import libvirt

        domain = self._domain(record.attachment.uuid) if record.attachment else None
        if domain is None or len(list(folder.glob(DISKS))) < 2:
            return None
        with faults.translated("read the domain", record.title):
            definition = parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        element = disk_of(definition, folder)
        return None if element is None else Path(_file(element))

    def _running(self, uuid: str) -> Any | None:
        """Return the domain of the host that a volume is attached to, if it runs."""
        domain = self._domain(uuid)
        return domain if domain is not None and domain.isActive() else None

    def _domain(self, uuid: str) -> Any | None:
        records = [record for record, _state in self.domains.read_all()[0] if record.uuid == uuid]
        return self.domains.find_existing(records[0]) if records else None

    def _place(self, domain: Any, folder: Path) -> Element | None:
        with faults.translated("read the domain"):
            return disk_of(parse(domain.XMLDesc(0)), folder)

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

    def insist(self, domain: Any, disk_element: Element, name: str, deadline: Deadline) -> None:
        """Request the guest to release a disk, and wait a limited time for it."""
        import libvirt

        path = Path(_file(disk_element))
        try:
            with faults.translated("detach the disk from the machine", name):
                domain.detachDeviceFlags(serialize(disk_element), libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except HypervisorError as error:
            # An earlier request is still pending, or the guest has just released the disk.
            if PENDING not in error.cause and _plugged(domain, path):
                raise
        patience = deadline.within(INSIST)
        while _plugged(domain, path):
            if deadline.passed():
                raise DeadlineExceeded(
                    f"the guest did not release {path} within {deadline.seconds:g} s.",
                    name=name,
                    remedy="run again, or restart the host",
                )
            if patience.passed():
                return
            patience.pause(POLL)

    def _unused(self) -> list[Path]:
        """Return the layers to delete: none if any volume, of any owner, cannot be read."""
        if self.files.read_all()[1] or not self.files.folder.is_dir():
            return []
        try:
            return self.layers.unused(
                sorted(folder for folder in self.files.folder.iterdir() if folder.is_dir()),
                self.branched_layers(),
            )
        except (HypervisorError, InvalidInput):
            return []


def disk_of(domain: Element, folder: Path) -> Element | None:
    """Return the element of a disk in a domain's definition, by the directory of its file: after a
    branch the file has another name.
    """
    for disk_element in domain.findall("./devices/disk"):
        if disk_element.find("source") is not None and Path(_file(disk_element)).parent == folder:
            return disk_element
    return None


def _plugged(domain: Any, path: Path) -> bool:
    """Return whether a running machine has a disk with a file."""
    with faults.translated("read the domain"):
        return disk_with(parse(domain.XMLDesc(0)), path) is not None


def _file(disk_element: Element) -> str:
    """Return the file that a machine writes to as a disk."""
    source = disk_element.find("source")
    return (source.get("file") or "") if source is not None else ""


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
