# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines that records are in: found, changed by compare and set, started and stopped, taken
away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...clock import Deadline
from ...errors import Conflict, NotFound, OperationRefused, StockyardError
from ...model.observation import R, Record, UnreadableObject
from . import api, specs
from .faults import is_a
from .inventory import DEVICES
from .inventory import machine as read_machine
from .lookup import Lookup
from .records import RECORD, Machine, from_value, record_of, to_value
from .register import Register, Values
from .reservations import HOST
from .session import Session
from .task import Tasks

PATIENCE = 300.0
STOP_GRACE = 60.0
POLL = 0.2
# Seconds for which a reading is as good as another one would be.
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
        """Remember where a machine is, and its network cards: to read its hardware takes longer
        than all else.
        """
        self._refs[record.uuid] = ref
        if cards:
            self._cards[record.uuid] = cards

    def ref(self, record: Record) -> Any:
        """The machine of a record, unread if it was read before.

        :raises NotFound: when there is none.
        """
        return self._refs.get(record.uuid) or self.need(record).ref

    def saw(self, record: Record, machine: Machine) -> None:
        """Remember, for a moment, how a machine was read by somebody else."""
        self._seen[record.uuid] = time.monotonic(), machine

    def lately(self, record: Record) -> Machine | None:
        """A machine as it was read a moment ago, with just this record in it; good for one use."""
        when, machine = self._seen.pop(record.uuid, (0.0, None))
        if machine is None or time.monotonic() - when > LATELY or machine.name != record.domain:
            return None
        return machine if machine.values.get(RECORD) == to_value(record) else None

    def need(self, record: Record, *more: str) -> Machine:
        """The machine of a record.

        :param more: properties to read beside the usual ones.
        :raises NotFound: when there is none.
        :raises Refused: when it cannot be read whose it is.
        """
        found = self.present(record, *more)
        if found is None:
            raise NotFound(
                "it has no machine.", name=record.title, remedy="converge its fleet, or replace it"
            )
        return found

    def present(self, record: Record, *more: str) -> Machine | None:
        """The machine of a record, or nothing; another machine that has its name is none of its."""
        found = self._read(record, *more)
        there = record_of(found) if found else None
        if found is None or there is None:
            return None
        if isinstance(there, UnreadableObject):
            raise OperationRefused(
                "its record cannot be read: it is left alone.",
                name=record.title,
                cause=there.reason,
            )
        return found if there.uuid == record.uuid and there.kind == record.kind else None

    def claim(self, record: R, **changes: Any) -> R:
        """Compare and set, in the machine or, for a host that has none yet, in the register."""
        deadline = Deadline(PATIENCE)
        while True:
            found = self.lately(record) or self.present(record)
            if found is None:
                return self._claim_reserved(record, changes)
            changed = _changed(record, found.values[RECORD], changes)
            spec = specs.reconfigure({RECORD: to_value(changed)}, found.change)
            if self._written(record, found.ref, spec, deadline):
                return changed
            # Something else of the machine was changed, or the record was: the next look tells.
            deadline.check("write the record", name=record.title, remedy="run again")

    def connect(self, found: Machine, record: Record, up: bool, deadline: Deadline) -> None:
        """Put a machine's cards on the wire, or take them off."""
        cards = self._cards.get(record.uuid)
        if cards is None:
            cards = self._cards[record.uuid] = specs.nics(self.need(record, DEVICES).devices)
        change = [specs.link(nic, up) for nic in cards]
        spec = api.vim().vm.ConfigSpec(deviceChange=change)
        what = "connect the network card" if up else "cut the network card off"
        self.tasks.run(what, record.title, lambda: found.ref.ReconfigVM_Task(spec), deadline)

    def stop(self, record: Record, deadline: Deadline) -> None:
        """Ask the guest to shut down; switch it off when it does not."""
        found = self.need(record)
        if found.power == "poweredOff":
            return
        if found.power == "poweredOn" and self._asked(found, record):
            grace = deadline.within(STOP_GRACE)
            while not grace.passed():
                if self.need(record).power == "poweredOff":
                    return
                grace.pause(POLL)
        self._off(found, record, deadline)

    def remove(self, record: Record, deadline: Deadline, spare: Callable[[Machine], None]) -> None:
        """Take a machine and its own disks away. Nothing there is a success.

        :param spare: takes out of it, when it is off, what is to be kept.
        """
        found = self.present(record, DEVICES)
        if found is None:
            return
        try:
            if found.power != "poweredOff":
                self._off(found, record, deadline)
            spare(found)
            self.tasks.run("destroy the machine", record.title, found.ref.Destroy_Task, deadline)
        except NotFound:
            pass
        self._refs.pop(record.uuid, None)

    def _read(self, record: Record, *more: str) -> Machine | None:
        """The machine that has the record's name, in one call if it was seen before."""
        ref = self._refs.get(record.uuid)
        if ref is not None:
            try:
                found = read_machine(self.session, ref, record.title, *more)
                if found.name == record.domain:
                    return found
            except NotFound:
                pass
            self._refs.pop(record.uuid, None)
        ref = self.lookup.child(record.domain)
        if ref is None:
            return None
        try:
            found = read_machine(self.session, ref, record.title, *more)
        except NotFound:
            return None
        if found.uuid == record.uuid:
            self._refs[record.uuid] = ref
        return found

    def _claim_reserved(self, record: R, changes: dict[str, Any]) -> R:
        key, written = HOST + record.domain, []

        def edit(values: Values) -> None:
            if key not in values:
                raise NotFound("it is not on record.", name=record.title)
            written.append(_changed(record, values[key], changes))
            values[key] = to_value(written[-1])

        self.register.change(edit)
        return written[-1]

    def _written(self, record: Record, ref: Any, spec: Any, deadline: Deadline) -> bool:
        """Whether it was written; not, when the machine is not what it was any more."""
        return _tried(
            lambda: self.tasks.run(
                "write the record", record.title, lambda: ref.ReconfigVM_Task(spec), deadline
            )
        )

    def _asked(self, found: Machine, record: Record) -> bool:
        """Whether the guest could be asked to shut down: not one without open-vm-tools."""
        try:
            self.session.tell("shut the guest down", record.title, found.ref.ShutdownGuest)
        except StockyardError as error:
            if is_a(error.__cause__, "ToolsUnavailable", "NotSupported", "InvalidPowerState"):
                return False
            raise
        return True

    def _off(self, found: Machine, record: Record, deadline: Deadline) -> None:
        try:
            self.tasks.run(
                "switch the machine off", record.title, found.ref.PowerOffVM_Task, deadline
            )
        except Conflict as error:
            if not is_a(error.__cause__, "InvalidPowerState"):
                raise


def _changed(record: R, value: str, changes: dict[str, Any]) -> R:
    """The record with its changes.

    :raises NotFound: when another host has its name by now.
    :raises Conflict: when it is not the version that the caller saw.
    :raises Refused: when what is on record cannot be read.
    """
    try:
        there = from_value(value)
    except StockyardError as error:
        raise OperationRefused(
            "its record cannot be read: it is left alone.", name=record.title, cause=str(error)
        ) from error
    if there.uuid != record.uuid or there.kind != record.kind:
        raise NotFound("it is not on record; another one has its name.", name=record.title)
    if there.version != record.version:
        raise Conflict(
            "it was changed meanwhile.",
            name=record.title,
            cause=f"version {there.version} is on record, {record.version} was expected",
            remedy="run again",
        )
    return replace(record, version=record.version + 1, **changes)


def _tried(write: Callable[[], Any]) -> bool:
    try:
        write()
    except StockyardError as error:
        if is_a(error.__cause__, "ConcurrentAccess", "TaskInProgress"):
            return False
        raise
    return True
