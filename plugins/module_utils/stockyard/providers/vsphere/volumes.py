# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes on vSphere: plain disks in a folder of ours, put into machines and taken out of them
while they run.

They are independent disks of machines: no snapshot or clone takes them along. A machine that goes
is rid of them first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...clock import Deadline
from ...errors import NotFound, StockyardError, Unsupported
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
# What vCenter says when a machine is not what it was when it was read.
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
        found, unreadable = volume_records.read(self.register.read().values)
        mine = sorted((e.record for e in found if e.record.owner == owner), key=lambda r: r.key)
        return VolumeObservation(tuple(mine), tuple(unreadable))

    def create(self, record: VolumeRecord, source: VolumeRecord | None, deadline: Deadline) -> None:
        self.guard.demand("volumes")
        new = Entry(record, disks.path(self.disks.store(), record), source.uuid if source else "")
        seen: list[Entry] = []

        def edit(values: Values) -> None:
            volume_records.add(values, new, source)
            seen[:] = [volume_records.find(values, source)] if source else []

        self.register.change(edit)
        if not seen:
            self.disks.create(record, new.disk, deadline)
            return
        self.disks.copy(record, new.disk, seen[0].disk, deadline)
        if record.size_gib > seen[0].record.size_gib:
            self.disks.extend(new.disk, record.size_gib, record.title, deadline)

    def claim(self, record: VolumeRecord, **changes: Any) -> VolumeRecord:
        written: list[VolumeRecord] = []
        self.register.change(
            lambda values: written.append(volume_records.claim(values, record, changes))
        )
        return written[-1]

    def grow(self, record: VolumeRecord, size_gib: int, deadline: Deadline) -> None:
        values = self.register.read().values
        there = volume_records.find(values, record)
        volume_records.refuse_copied(values, record)
        want = size_gib * disks.GIB_IN_KIB
        while machine := self._holding(there, values):
            device = disks.in_machine(machine.devices, record, there.disk)
            if device is None or device.capacityInKB >= want:
                return
            change = [specs.larger_disk(device, want)]
            self._reconfigured("grow the disk", record.title, machine, change, deadline)
        self.disks.extend(there.disk, size_gib, record.title, deadline)

    def plug(self, host: HostRecord, record: VolumeRecord, deadline: Deadline) -> None:
        self.guard.demand("volumes")
        while True:
            file = volume_records.find(self.register.read().values, record).disk
            machine = self.machines.need(host, DEVICES, option(SHOWN))
            there = disks.in_machine(machine.devices, record, file)
            if there is not None:
                break
            _check_shown(host, machine)
            controller, unit = disks.place_for(machine.devices, host.title)
            change = [specs.known_disk(file, controller, unit)]
            # Another volume may have come to this unit meanwhile: then it is looked at again.
            self._reconfigured(
                "put the disk into the machine", record.title, machine, change, deadline
            )
        if disks.digits(str(there.backing.uuid or "")) != disks.uuid_of(record):
            self._take_out(host, machine, [there], deadline)
            raise disks.other_uuid(there, record)

    def unplug(self, host: HostRecord, record: VolumeRecord, deadline: Deadline) -> None:
        while True:
            file = volume_records.find(self.register.read().values, record).disk
            machine = self.machines.need(host, DEVICES)
            there = disks.in_machine(machine.devices, record, file)
            if there is None:
                return
            self._take_out(host, machine, [there], deadline)

    def spare(self, record: Record, machine: Machine, deadline: Deadline) -> None:
        """Take all volumes out of a machine that is about to be destroyed: vCenter deletes what is
        in it then.
        """
        while found := [d for d in machine.devices if disks.is_volume(d)]:
            self._take_out(record, machine, found, deadline)
            machine = self.machines.need(record, DEVICES)

    def destroy(self, record: VolumeRecord) -> None:
        gone: list[Entry] = []
        try:
            self.register.change(lambda values: gone.append(volume_records.leave(values, record)))
        except NotFound:
            return
        self.disks.delete(gone[-1].disk, record.title, Deadline(PATIENCE))
        self.register.change(lambda values: volume_records.drop(values, record))

    def sweep(self, owner: str, older_than: float, *, check: bool = False) -> SweepResult:
        """A disk has an entry in the register from before it is made until it is gone: there is no
        other.
        """
        return SweepResult((), ())

    def facts(self, record: VolumeRecord) -> dict[str, Any]:
        try:
            there = volume_records.find(self.register.read().values, record)
        except NotFound:
            return {}
        look = self.disks.look(there.disk, record.title, Deadline(PATIENCE))
        return {"disk": there.disk, "allocated": look.allocated, "shared": 0}

    def _holding(self, entry: Entry, values: Mapping[str, str]) -> Machine | None:
        """The machine that a volume's disk is in."""
        holder = entry.record.holder
        self.reading.refreshed(values)
        host = self.reading.known.hosts.get(holder.uuid) if holder else None
        machine = self.machines.present(host, DEVICES) if host else None
        there = (
            machine is not None
            and disks.in_machine(machine.devices, entry.record, entry.disk) is not None
        )
        return machine if there else None

    def _take_out(
        self, record: Record, machine: Machine, devices: Sequence[Any], deadline: Deadline
    ) -> None:
        """Take disks out of a machine, and note where vCenter has their files by now."""
        self._moved(
            {disks.digits(str(d.backing.uuid or "")): str(d.backing.fileName) for d in devices}
        )
        change = [specs.without(device) for device in devices]
        self._reconfigured(
            "take the disk out of the machine", record.title, machine, change, deadline
        )

    def _moved(self, files: dict[str, str]) -> None:
        def edit(values: Values) -> None:
            for entry in volume_records.read(values)[0]:
                file = files.get(disks.uuid_of(entry.record), entry.disk)
                if file != entry.disk:
                    volume_records.write(values, replace(entry, disk=file))

        found = volume_records.read(self.register.read().values)[0]
        if any(files.get(disks.uuid_of(e.record), e.disk) != e.disk for e in found):
            self.register.change(edit)

    def _reconfigured(
        self, what: str, name: str, machine: Machine, changes: list[Any], deadline: Deadline
    ) -> None:
        """Change a machine's devices, if it is still what it was; else whoever asks looks again."""
        spec = specs.devices(changes, machine.change)
        deadline.check(what, name=name, remedy="run again")
        try:
            self.tasks.run(what, name, lambda: machine.ref.ReconfigVM_Task(spec), deadline)
        except StockyardError as error:
            if not is_a(error.__cause__, *BUSY):
                raise
            deadline.pause(RETRY)


def _check_shown(host: HostRecord, machine: Machine) -> None:
    if machine.values.get(SHOWN, "").upper() != "TRUE":
        raise Unsupported(
            "its guest cannot see which disk is which.",
            name=host.title,
            cause=f"{SHOWN} is not set in its machine",
            remedy="build its template anew: it was made before there were volumes here",
        )
