# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes on vSphere: plain disks in a folder of stockyard, attached to running machines.

The disks are independent: snapshots and clones of a machine leave them out. Before a machine is
deleted, its volumes are detached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...clock import Deadline
from ...errors import NotFound, StockyardError, Unsupported
from ...hypervisor.facts import VolumeFacts
from ...model.host import HostRecord
from ...model.observation import Record, SweepResult, VolumeObservation
from ...model.volume import VolumeRecord
from . import disks, specs, volume_records
from .disks import Disks
from .faults import is_a
from .inventory import DEVICES
from .lookup import Lookup
from .machine_cache import Reading
from .machines import Machines
from .privileges import Guard
from .records import SHOWN, Machine, option
from .register import Register, Values
from .session import Session
from .task import Tasks
from .volume_records import Entry

PATIENCE = 300.0
RETRY = 0.05
# The faults of vCenter for a machine that changed after it was read.
BUSY = ("ConcurrentAccess", "TaskInProgress")


class VsphereVolumes:
    """The volumes of one yard's folder."""

    def __init__(
        self,
        session: Session,
        tasks: Tasks,
        lookup: Lookup,
        register: Register,
        machines: Machines,
        reading: Reading,
        guard: Guard,
    ) -> None:
        self.tasks = tasks
        self.register = register
        self.machines = machines
        self.reading = reading
        self.guard = guard
        self.disks = Disks(session, tasks, lookup)

    def observe(self, owner: str) -> VolumeObservation:
        return volume_records.observation(self.register.read().values, owner)

    def create(self, record: VolumeRecord, source: VolumeRecord | None, deadline: Deadline) -> None:
        self.guard.demand("volumes")
        new_entry = Entry(
            record, disks.path(self.disks.store(), record), source.uuid if source else ""
        )
        sources: list[Entry] = []

        def edit(values: Values) -> None:
            volume_records.add(values, new_entry, source)
            sources[:] = [volume_records.find(values, source)] if source else []

        self.register.change(edit)
        if not sources:
            self.disks.create(record, new_entry.disk, deadline)
            return
        self.disks.copy(record, new_entry.disk, sources[0].disk, deadline)
        if record.size_gib > sources[0].record.size_gib:
            self.disks.extend(new_entry.disk, record.size_gib, record.title, deadline)

    def claim(self, record: VolumeRecord, **changes: Any) -> VolumeRecord:
        new_records: list[VolumeRecord] = []
        self.register.change(
            lambda values: new_records.append(volume_records.claim(values, record, changes))
        )
        return new_records[-1]

    def grow(self, record: VolumeRecord, size_gib: int, deadline: Deadline) -> None:
        values = self.register.read().values
        entry = volume_records.find(values, record)
        volume_records.refuse_copied(values, record)
        capacity_kib = size_gib * disks.GIB_IN_KIB
        while machine := self._holding(entry, values):
            device = disks.in_machine(machine.devices, record, entry.disk)
            if device is None or device.capacityInKB >= capacity_kib:
                return
            change = [specs.larger_disk(device, capacity_kib)]
            self._reconfigured("resize the disk", record.title, machine, change, deadline)
        self.disks.extend(entry.disk, size_gib, record.title, deadline)

    def plug(self, host: HostRecord, record: VolumeRecord, deadline: Deadline) -> None:
        self.guard.demand("volumes")
        while True:
            file = volume_records.find(self.register.read().values, record).disk
            machine = self.machines.get(host, DEVICES, option(SHOWN))
            device = disks.in_machine(machine.devices, record, file)
            if device is not None:
                break
            _check_shown(host, machine)
            controller, unit = disks.place_for(machine.devices, host.title)
            change = [specs.known_disk(file, controller, unit)]
            # If another volume took this unit in the meantime, the machine is read again.
            self._reconfigured(
                "attach the disk to the machine", record.title, machine, change, deadline
            )
        if disks.digits(str(device.backing.uuid or "")) != disks.uuid_of(record):
            self._take_out(host, machine, [device], deadline)
            raise disks.other_uuid(device, record)

    def unplug(self, host: HostRecord, record: VolumeRecord, deadline: Deadline) -> None:
        while True:
            file = volume_records.find(self.register.read().values, record).disk
            machine = self.machines.get(host, DEVICES)
            device = disks.in_machine(machine.devices, record, file)
            if device is None:
                return
            self._take_out(host, machine, [device], deadline)

    def spare(self, record: Record, machine: Machine, deadline: Deadline) -> None:
        """Detach all volumes from a machine before its deletion.

        vCenter deletes the disks of a deleted machine.
        """
        while devices := [device for device in machine.devices if disks.is_volume(device)]:
            self._take_out(record, machine, devices, deadline)
            machine = self.machines.get(record, DEVICES)

    def destroy(self, record: VolumeRecord) -> None:
        entries: list[Entry] = []
        try:
            self.register.change(
                lambda values: entries.append(volume_records.leave(values, record))
            )
        except NotFound:
            return
        self.disks.delete(entries[-1].disk, record.title, Deadline(PATIENCE))
        self.register.change(lambda values: volume_records.delete(values, record))

    def sweep(self, owner: str, older_than: float, *, check: bool = False) -> SweepResult:
        """Return an empty result: there are no orphans.

        A disk has an entry in the register from before its creation until after its deletion.
        """
        return SweepResult((), ())

    def facts(self, record: VolumeRecord) -> VolumeFacts:
        try:
            entry = volume_records.find(self.register.read().values, record)
        except NotFound:
            return VolumeFacts()
        disk_file = self.disks.look(entry.disk, record.title, Deadline(PATIENCE))
        return VolumeFacts(entry.disk, disk_file.allocated, 0)

    def _holding(self, entry: Entry, values: Mapping[str, str]) -> Machine | None:
        """Return the machine that a volume's disk is attached to."""
        attachment = entry.record.attachment
        self.reading.refreshed(values)
        host = self.reading.known.hosts.get(attachment.uuid) if attachment else None
        machine = self.machines.find_existing(host, DEVICES) if host else None
        has_disk = (
            machine is not None
            and disks.in_machine(machine.devices, entry.record, entry.disk) is not None
        )
        return machine if has_disk else None

    def _take_out(
        self, record: Record, machine: Machine, devices: Sequence[Any], deadline: Deadline
    ) -> None:
        """Detach disks from a machine, and record the current paths of their files."""
        self._moved(
            {
                disks.digits(str(disk.backing.uuid or "")): str(disk.backing.fileName)
                for disk in devices
            }
        )
        change = [specs.without(device) for device in devices]
        self._reconfigured(
            "detach the disk from the machine", record.title, machine, change, deadline
        )

    def _moved(self, files: dict[str, str]) -> None:
        def edit(values: Values) -> None:
            for entry in volume_records.read(values)[0]:
                file = files.get(disks.uuid_of(entry.record), entry.disk)
                if file != entry.disk:
                    volume_records.write(values, replace(entry, disk=file))

        entries = volume_records.read(self.register.read().values)[0]
        if any(
            files.get(disks.uuid_of(volume_entry.record), volume_entry.disk) != volume_entry.disk
            for volume_entry in entries
        ):
            self.register.change(edit)

    def _reconfigured(
        self, action: str, name: str, machine: Machine, changes: list[Any], deadline: Deadline
    ) -> None:
        """Change a machine's devices, if the machine did not change after it was read.

        If it changed, nothing is done, and the caller must read it again.
        """
        spec = specs.devices(changes, machine.change)
        deadline.check(action, name=name, remedy="run again")
        try:
            self.tasks.run(action, name, lambda: machine.ref.ReconfigVM_Task(spec), deadline)
        except StockyardError as error:
            if not is_a(error.__cause__, *BUSY):
                raise
            deadline.pause(RETRY)


def _check_shown(host: HostRecord, machine: Machine) -> None:
    if machine.values.get(SHOWN, "").upper() != "TRUE":
        raise Unsupported(
            "the guest cannot identify its disks.",
            name=host.title,
            cause=f"{SHOWN} is not set in the machine",
            remedy="rebuild the template: it was built before volumes were supported",
        )
