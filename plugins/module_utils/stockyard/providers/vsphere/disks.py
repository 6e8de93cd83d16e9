# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of volumes: files that vCenter's disk manager makes, and devices of the machines that
they are in.

A disk carries a uuid that follows from its volume's: by it the guest knows it, and so do we,
wherever vCenter moved its file to.
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
# SCSI units that a controller has for disks; it is number 7 itself.
UNITS = tuple(n for n in range(16) if n != 7)


def digits(uuid: str) -> str:
    """A disk's uuid in hexadecimal digits alone, as vCenter writes it in several ways."""
    return "".join(c for c in uuid.lower() if c in "0123456789abcdef")


def uuid_of(record: VolumeRecord) -> str:
    """The uuid of a volume's disk, in digits."""
    return NAA + record.serial


def spelled(uuid: str) -> str:
    """A uuid as descriptors of disks have it: ``60 00 c2 9… -…``."""
    pairs = [uuid[n : n + 2] for n in range(0, len(uuid), 2)]
    return f"{' '.join(pairs[:8])}-{' '.join(pairs[8:])}"


def path(store: str, record: VolumeRecord) -> str:
    """Where a volume's disk is made."""
    return f"[{store}] {FOLDER}/{record.uuid}.vmdk"


def is_volume(device: Any) -> bool:
    """Whether a device is a volume's disk, by its uuid or, if vCenter has another opinion of that,
    by its place.

    A machine's own disk may have such a uuid by chance, but it is none that snapshots leave out.
    """
    backing = getattr(device, "backing", None)
    if not isinstance(device, api.vim().vm.device.VirtualDisk) or backing is None:
        return False
    place = str(getattr(backing, "fileName", "") or "").partition("] ")[2]
    signed = digits(str(getattr(backing, "uuid", "") or "")).startswith(NAA)
    return (signed and backing.diskMode == specs.INDEPENDENT) or place.startswith(f"{FOLDER}/")


def in_machine(devices: Iterable[Any], record: VolumeRecord, file: str) -> Any | None:
    """A volume's disk among a machine's devices."""
    for device in filter(is_volume, devices):
        if (
            digits(str(device.backing.uuid or "")) == uuid_of(record)
            or device.backing.fileName == file
        ):
            return device
    return None


def place_for(devices: Iterable[Any], name: str) -> tuple[int, int]:
    """A controller's key and a unit of it that is free.

    :raises Unsupported: when there is none.
    """
    devices = list(devices)
    controllers = [d for d in devices if isinstance(d, api.vim().vm.device.VirtualSCSIController)]
    for controller in controllers:
        used = {d.unitNumber for d in devices if d.controllerKey == controller.key}
        free = [unit for unit in UNITS if unit not in used]
        if free:
            return controller.key, free[0]
    cause = (
        "all units of its SCSI controllers are taken"
        if controllers
        else "it has no SCSI controller"
    )
    remedy = "give the source a paravirtual SCSI controller, and build the template anew"
    raise Unsupported(
        "there is no room for one more volume.", name=name, cause=cause, remedy=remedy
    )


@dataclass(frozen=True)
class Look:
    """A disk's file.

    :param allocated: what it takes of the datastore, in bytes.
    :param capacity_kib: how large it is; 0 where vCenter does not say so.
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
        """The name of the datastore that new disks are on."""
        found = properties(self.session, self.lookup.datastore(), ("summary.name",), "datastore")
        return str(found["summary.name"])

    def create(self, record: VolumeRecord, file: str, deadline: Deadline) -> None:
        """Make an empty disk, thin."""
        self._have_folder(file, record.title)
        spec = specs.thin_disk(record.size_gib * GIB_IN_KIB)
        manager, where = self._manager, self.lookup.datacenter
        self.tasks.run(
            "make the disk",
            record.title,
            lambda: manager.CreateVirtualDisk_Task(file, where, spec),
            deadline,
        )
        self._sign(record, file)

    def copy(self, record: VolumeRecord, file: str, source: str, deadline: Deadline) -> None:
        """Make a copy of a disk that nobody writes to. vCenter takes no wish as to its format."""
        self._have_folder(file, record.title)
        manager, where = self._manager, self.lookup.datacenter
        self.tasks.run(
            "copy the disk",
            record.title,
            lambda: manager.CopyVirtualDisk_Task(source, where, file, where, None, False),
            deadline,
        )
        self._sign(record, file)

    def extend(self, file: str, size_gib: int, name: str, deadline: Deadline) -> None:
        """Have a disk that is in no machine at least that large."""
        if self.look(file, name, deadline).capacity_kib >= size_gib * GIB_IN_KIB:
            return
        manager, where = self._manager, self.lookup.datacenter
        size = size_gib * GIB_IN_KIB
        self.tasks.run(
            "grow the disk",
            name,
            lambda: manager.ExtendVirtualDisk_Task(file, where, size, False),
            deadline,
        )

    def delete(self, file: str, name: str, deadline: Deadline) -> None:
        """Delete a disk. Nothing there is a success."""
        manager, where = self._manager, self.lookup.datacenter
        try:
            self.tasks.run(
                "delete the disk",
                name,
                lambda: manager.DeleteVirtualDisk_Task(file, where),
                deadline,
            )
        except StockyardError as error:
            if not is_a(error.__cause__, "FileNotFound"):
                raise

    def look(self, file: str, name: str, deadline: Deadline) -> Look:
        """What a disk's file takes; nothing for one that is not there."""
        store, _space, place = file[1:].partition("] ")
        folder, _slash, base = place.rpartition("/")
        browser = properties(
            self.session, self.lookup.datastore_called(store), ("browser",), store
        )["browser"]
        search = specs.disk_search(base)
        try:
            found = self.tasks.run(
                "look at the disk",
                name,
                lambda: browser.SearchDatastore_Task(f"[{store}] {folder}", search),
                deadline,
            )
        except StockyardError as error:
            if not is_a(error.__cause__, "FileNotFound"):
                raise
            return Look()
        for one in getattr(found, "file", None) or []:
            return Look(int(one.fileSize or 0), int(getattr(one, "capacityKb", 0) or 0))
        return Look()

    @property
    def _manager(self) -> Any:
        return self.session.content.virtualDiskManager

    def _sign(self, record: VolumeRecord, file: str) -> None:
        """Give a new disk the uuid by which it is known; nobody has it yet."""
        manager, where, uuid = self._manager, self.lookup.datacenter, spelled(uuid_of(record))
        self.session.ask(
            "sign the disk", record.title, lambda: manager.SetVirtualDiskUuid(file, where, uuid)
        )

    def _have_folder(self, file: str, name: str) -> None:
        folder = file.rpartition("/")[0]
        if folder in self._folders:
            return
        manager, where = self.session.content.fileManager, self.lookup.datacenter
        _unless(
            lambda: self.session.ask(
                "make the folder", name, lambda: manager.MakeDirectory(folder, where, True)
            ),
            "FileAlreadyExists",
        )
        self._folders.add(folder)


def other_uuid(device: Any, record: VolumeRecord) -> HypervisorError:
    """What is said of a disk whose guest would not know it."""
    return HypervisorError(
        "vCenter gave its disk another uuid than it was asked to: no guest would know it.",
        name=record.title,
        cause=f"{device.backing.uuid}, not {uuid_of(record)}",
        remedy="look at the disk in vCenter, and report this",
    )


def _unless(call: Callable[[], Any], *kinds: str) -> None:
    try:
        call()
    except StockyardError as error:
        if not is_a(error.__cause__, *kinds):
            raise
