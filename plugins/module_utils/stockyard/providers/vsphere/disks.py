# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of volumes: files of vCenter's disk manager, and devices of machines.

A disk carries a UUID that follows from its volume's UUID. The guest and the controller know the
disk by that UUID, even if vCenter moves its file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...clock import Deadline
from ...errors import HypervisorError, StockyardError, Unsupported
from ...guest.agent.disks import NAA
from ...model.volume import VolumeRecord
from . import api, specs
from .faults import is_a
from .inventory import properties
from .lookup import Lookup
from .session import Session
from .task import Tasks

FOLDER = "stockyard-volumes"
GIB_IN_KIB = 1 << 20
# SCSI units of a controller for disks; unit 7 is the controller itself.
UNITS = tuple(n for n in range(16) if n != 7)


def digits(uuid: str) -> str:
    """Return only the hexadecimal digits of a UUID, which vCenter writes in several forms."""
    return "".join(character for character in uuid.lower() if character in "0123456789abcdef")


def uuid_of(record: VolumeRecord) -> str:
    """Return the UUID of a volume's disk, in digits."""
    return NAA + record.serial


def spelled(uuid: str) -> str:
    """Return a UUID in the form of disk descriptors: ``60 00 c2 9… -…``."""
    pairs = [uuid[start : start + 2] for start in range(0, len(uuid), 2)]
    return f"{' '.join(pairs[:8])}-{' '.join(pairs[8:])}"


def path(store: str, record: VolumeRecord) -> str:
    """Return the path at which a volume's disk is created."""
    return f"[{store}] {FOLDER}/{record.uuid}.vmdk"


def is_volume(device: Any) -> bool:
    """Check whether a device is a volume's disk.

    The UUID decides, or the path of the file if vCenter reports another UUID. A machine's own disk
    may have such a UUID by chance, but snapshots do not leave that disk out.
    """
    backing = getattr(device, "backing", None)
    if not isinstance(device, api.vim().vm.device.VirtualDisk) or backing is None:
        return False
    file_path = str(getattr(backing, "fileName", "") or "").partition("] ")[2]
    has_volume_uuid = digits(str(getattr(backing, "uuid", "") or "")).startswith(NAA)
    return (has_volume_uuid and backing.diskMode == specs.INDEPENDENT) or file_path.startswith(
        f"{FOLDER}/"
    )


def in_machine(devices: Iterable[Any], record: VolumeRecord, file: str) -> Any | None:
    """Return a volume's disk among a machine's devices, if the machine has it."""
    for device in filter(is_volume, devices):
        if (
            digits(str(device.backing.uuid or "")) == uuid_of(record)
            or device.backing.fileName == file
        ):
            return device
    return None


def place_for(devices: Iterable[Any], name: str) -> tuple[int, int]:
    """Return the key of a SCSI controller and a free unit of that controller.

    :raises Unsupported: if no unit is free.
    """
    devices = list(devices)
    controllers = [
        device
        for device in devices
        if isinstance(device, api.vim().vm.device.VirtualSCSIController)
    ]
    for controller in controllers:
        used_units = {
            device.unitNumber for device in devices if device.controllerKey == controller.key
        }
        free_units = [unit for unit in UNITS if unit not in used_units]
        if free_units:
            return controller.key, free_units[0]
    cause = (
        "all units of its SCSI controllers are in use"
        if controllers
        else "the machine has no SCSI controller"
    )
    remedy = "add a paravirtual SCSI controller to the source, and rebuild the template"
    raise Unsupported(
        "the machine has no free SCSI unit for a volume.", name=name, cause=cause, remedy=remedy
    )


@dataclass(frozen=True)
class Look:
    """The size of a disk's file.

    :param allocated: space that the file uses on the datastore, in bytes.
    :param capacity_kib: capacity of the disk; 0 if vCenter does not report it.
    """

    allocated: int = 0
    capacity_kib: int = 0


class Disks:
    """The disk manager of one session's vCenter."""

    def __init__(self, session: Session, tasks: Tasks, lookup: Lookup) -> None:
        self.session = session
        self.tasks = tasks
        self.lookup = lookup
        self._folders: set[str] = set()

    def store(self) -> str:
        """Return the name of the datastore for new disks."""
        values = properties(self.session, self.lookup.datastore(), ("summary.name",), "datastore")
        return str(values["summary.name"])

    def create(self, record: VolumeRecord, file: str, deadline: Deadline) -> None:
        """Create an empty thin disk."""
        self._have_folder(file, record.title)
        spec = specs.thin_disk(record.size_gib * GIB_IN_KIB)
        manager, datacenter = self._manager, self.lookup.datacenter
        self.tasks.run(
            "create the disk",
            record.title,
            lambda: manager.CreateVirtualDisk_Task(file, datacenter, spec),
            deadline,
        )
        self._sign(record, file)

    def copy(self, record: VolumeRecord, file: str, source: str, deadline: Deadline) -> None:
        """Create a copy of a disk that has no writer. vCenter chooses the format of the copy."""
        self._have_folder(file, record.title)
        manager, datacenter = self._manager, self.lookup.datacenter
        self.tasks.run(
            "copy the disk",
            record.title,
            lambda: manager.CopyVirtualDisk_Task(source, datacenter, file, datacenter, None, False),
            deadline,
        )
        self._sign(record, file)

    def extend(self, file: str, size_gib: int, name: str, deadline: Deadline) -> None:
        """Extend a disk that is attached to no machine, if the disk is smaller than the size."""
        if self.look(file, name, deadline).capacity_kib >= size_gib * GIB_IN_KIB:
            return
        manager, datacenter = self._manager, self.lookup.datacenter
        size = size_gib * GIB_IN_KIB
        self.tasks.run(
            "resize the disk",
            name,
            lambda: manager.ExtendVirtualDisk_Task(file, datacenter, size, False),
            deadline,
        )

    def delete(self, file: str, name: str, deadline: Deadline) -> None:
        """Delete a disk. The call succeeds if the disk does not exist."""
        manager, datacenter = self._manager, self.lookup.datacenter
        try:
            self.tasks.run(
                "delete the disk",
                name,
                lambda: manager.DeleteVirtualDisk_Task(file, datacenter),
                deadline,
            )
        except StockyardError as error:
            if not is_a(error.__cause__, "FileNotFound"):
                raise

    def look(self, file: str, name: str, deadline: Deadline) -> Look:
        """Return the size of a disk's file; zeros if the file does not exist."""
        store, _space, file_path = file[1:].partition("] ")
        folder, _slash, base = file_path.rpartition("/")
        browser = properties(
            self.session, self.lookup.datastore_called(store), ("browser",), store
        )["browser"]
        search = specs.disk_search(base)
        try:
            result = self.tasks.run(
                "read the disk",
                name,
                lambda: browser.SearchDatastore_Task(f"[{store}] {folder}", search),
                deadline,
            )
        except StockyardError as error:
            if not is_a(error.__cause__, "FileNotFound"):
                raise
            return Look()
        for entry in getattr(result, "file", None) or []:
            return Look(int(entry.fileSize or 0), int(getattr(entry, "capacityKb", 0) or 0))
        return Look()

    @property
    def _manager(self) -> Any:
        return self.session.content.virtualDiskManager

    def _sign(self, record: VolumeRecord, file: str) -> None:
        """Give a new disk its UUID. The disk is not attached yet."""
        manager, datacenter, uuid = self._manager, self.lookup.datacenter, spelled(uuid_of(record))
        self.session.read(
            "sign the disk",
            record.title,
            lambda: manager.SetVirtualDiskUuid(file, datacenter, uuid),
        )

    def _have_folder(self, file: str, name: str) -> None:
        folder = file.rpartition("/")[0]
        if folder in self._folders:
            return
        manager, datacenter = self.session.content.fileManager, self.lookup.datacenter
        _unless(
            lambda: self.session.read(
                "create the folder", name, lambda: manager.MakeDirectory(folder, datacenter, True)
            ),
            "FileAlreadyExists",
        )
        self._folders.add(folder)


def other_uuid(device: Any, record: VolumeRecord) -> HypervisorError:
    """Return the error for a disk that its guest would not recognise."""
    return HypervisorError(
        "vCenter created the disk with a different uuid than requested, so no guest could "
        "identify it.",
        name=record.title,
        cause=f"{device.backing.uuid}, not {uuid_of(record)}",
        remedy="inspect the disk in vCenter, and report this message",
    )


def _unless(call: Callable[[], Any], *kinds: str) -> None:
    try:
        call()
    except StockyardError as error:
        if not is_a(error.__cause__, *kinds):
            raise
