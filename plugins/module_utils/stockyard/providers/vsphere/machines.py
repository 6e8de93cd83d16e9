# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines that carry records: lookup, compare-and-set changes, start, stop and deletion."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ...clock import Deadline
from ...errors import Conflict, NotFound, StockyardError
from ...model.observation import R, Record, UnreadableObject
from ..common.stored_records import compare_and_set, refuse_unreadable
from . import api, specs
from .faults import is_a
from .inventory import DEVICES
from .inventory import machine as read_machine
from .lookup import Lookup
from .records import RECORD, Machine, record_of, to_value
from .register import Register, Values
from .reservations import HOST, reserved
from .session import Session
from .task import Tasks

PATIENCE = 300.0
STOP_GRACE = 60.0
POLL = 0.2
# Seconds for which a reading counts as current.
LATELY = 1.0


class Machines:
    """The machines of one folder, by their records."""

    def __init__(self, session: Session, tasks: Tasks, lookup: Lookup, register: Register) -> None:
        self.session = session
        self.tasks = tasks
        self.lookup = lookup
        self.register = register
        self._refs: dict[str, Any] = {}
        self._cards: dict[str, list[Any]] = {}
        self._seen: dict[str, tuple[float, Machine]] = {}

    def learn(self, record: Record, ref: Any, cards: list[Any] | None = None) -> None:
        """Remember the reference of a machine and its network cards.

        Reading a machine's hardware takes longer than all other steps.
        """
        self._refs[record.uuid] = ref
        if cards:
            self._cards[record.uuid] = cards

    def ref(self, record: Record) -> Any:
        """Return the reference of a record's machine, without a reading if the reference is known.

        :raises NotFound: if the machine does not exist.
        """
        return self._refs.get(record.uuid) or self.get(record).ref

    def saw(self, record: Record, machine: Machine) -> None:
        """Remember, for a moment, a machine that another component has read."""
        self._seen[record.uuid] = time.monotonic(), machine

    def lately(self, record: Record) -> Machine | None:
        """Return a machine that was read a moment ago, if it carries exactly this record.

        The reading is good for one use.
        """
        read_time, machine = self._seen.pop(record.uuid, (0.0, None))
        if (
            machine is None
            or time.monotonic() - read_time > LATELY
            or machine.name != record.domain
        ):
            return None
        return machine if machine.values.get(RECORD) == to_value(record) else None

    def get(self, record: Record, *extra_names: str) -> Machine:
        """Return the machine of a record.

        :param extra_names: properties to read in addition to the usual ones.
        :raises NotFound: if the machine does not exist.
        :raises OperationRefused: if the machine's record cannot be read.
        """
        machine = self.find_existing(record, *extra_names)
        if machine is None:
            raise NotFound(
                "the host has no machine.",
                name=record.title,
                remedy="converge the fleet, or replace the host",
            )
        return machine

    def find_existing(self, record: Record, *extra_names: str) -> Machine | None:
        """Return the machine of a record, if it exists.

        A machine that has the same name but another record does not count.

        :raises OperationRefused: if the machine's record cannot be read.
        """
        machine = self._read(record, *extra_names)
        existing = record_of(machine) if machine else None
        if machine is None or existing is None:
            return None
        refuse_unreadable(record, existing)
        is_same = (
            not isinstance(existing, UnreadableObject)
            and existing.uuid == record.uuid
            and existing.kind == record.kind
        )
        return machine if is_same else None

    def claim(self, record: R, **changes: Any) -> R:
        """Change a record by compare-and-set.

        The record is in the machine, or in the register if the host has no machine yet.
        """
        deadline = Deadline(PATIENCE)
        while True:
            machine = self.lately(record) or self.find_existing(record)
            if machine is None:
                return self._claim_reserved(record, changes)
            new_record = compare_and_set(record, record_of(machine), **changes)
            spec = specs.reconfigure({RECORD: to_value(new_record)}, machine.change)
            if self._written(record, machine.ref, spec, deadline):
                return new_record
            # The machine or its record changed after the reading: the next reading shows which.
            deadline.check("write the record", name=record.title, remedy="run again")

    def connect(
        self,
        machine: Machine,
        record: Record,
        up: bool,
        deadline: Deadline,
        *,
        at_start: bool = True,
    ) -> None:
        """Connect a machine's network cards, or disconnect them.

        :param at_start: whether cards that are connected now are connected at the next start too.
        """
        cards = self._cards.get(record.uuid)
        if cards is None:
            cards = self._cards[record.uuid] = specs.nics(self.get(record, DEVICES).devices)
        change = [specs.link(nic, up, at_start=at_start) for nic in cards]
        spec = api.vim().vm.ConfigSpec(deviceChange=change)
        action = "connect the network card" if up else "disconnect the network card"
        self.tasks.run(action, record.title, lambda: machine.ref.ReconfigVM_Task(spec), deadline)

    def stop(self, record: Record, deadline: Deadline) -> None:
        """Shut the guest down; switch the machine off if the guest does not shut down in time."""
        machine = self.get(record)
        if machine.power == "poweredOff":
            return
        if machine.power == "poweredOn" and self._asked(machine, record):
            grace = deadline.within(STOP_GRACE)
            while not grace.passed():
                if self.get(record).power == "poweredOff":
                    return
                grace.pause(POLL)
        self._off(machine, record, deadline)

    def remove(
        self, record: Record, deadline: Deadline, detach_volumes: Callable[[Machine], None]
    ) -> None:
        """Delete a machine and its own disks. The call succeeds if the machine does not exist.

        :param detach_volumes: called when the machine is off, to detach the disks that must
            survive.
        """
        machine = self.find_existing(record, DEVICES)
        if machine is None:
            return
        try:
            if machine.power != "poweredOff":
                self._off(machine, record, deadline)
            detach_volumes(machine)
            self.tasks.run("delete the machine", record.title, machine.ref.Destroy_Task, deadline)
        except NotFound:
            pass
        self._refs.pop(record.uuid, None)

    def _read(self, record: Record, *extra_names: str) -> Machine | None:
        """Return the machine with the record's name, in one call if its reference is known."""
        ref = self._refs.get(record.uuid)
        if ref is not None:
            try:
                machine = read_machine(self.session, ref, record.title, *extra_names)
                if machine.name == record.domain:
                    return machine
            except NotFound:
                pass
            self._refs.pop(record.uuid, None)
        ref = self.lookup.child(record.domain)
        if ref is None:
            return None
        try:
            machine = read_machine(self.session, ref, record.title, *extra_names)
        except NotFound:
            return None
        if machine.uuid == record.uuid:
            self._refs[record.uuid] = ref
        return machine

    def _claim_reserved(self, record: R, changes: dict[str, Any]) -> R:
        key, new_records = HOST + record.domain, []

        def edit(values: Values) -> None:
            reservation = dict(reserved(values)).get(record.domain)
            new_records.append(compare_and_set(record, reservation, **changes))
            values[key] = to_value(new_records[-1])

        self.register.change(edit)
        return new_records[-1]

    def _written(self, record: Record, ref: Any, spec: Any, deadline: Deadline) -> bool:
        """Write a record, and return false if the machine changed after it was read."""
        return _tried(
            lambda: self.tasks.run(
                "write the record", record.title, lambda: ref.ReconfigVM_Task(spec), deadline
            )
        )

    def _asked(self, machine: Machine, record: Record) -> bool:
        """Ask the guest to shut down; return false if it cannot, as without open-vm-tools."""
        try:
            self.session.change("shut the guest down", record.title, machine.ref.ShutdownGuest)
        except StockyardError as error:
            if is_a(error.__cause__, "ToolsUnavailable", "NotSupported", "InvalidPowerState"):
                return False
            raise
        return True

    def _off(self, machine: Machine, record: Record, deadline: Deadline) -> None:
        try:
            self.tasks.run(
                "switch the machine off", record.title, machine.ref.PowerOffVM_Task, deadline
            )
        except Conflict as error:
            if not is_a(error.__cause__, "InvalidPowerState"):
                raise


def _tried(write: Callable[[], Any]) -> bool:
    try:
        write()
    except StockyardError as error:
        if is_a(error.__cause__, "ConcurrentAccess", "TaskInProgress"):
            return False
        raise
    return True
