# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The yard's register: a machine that is never started.

All controllers change its extraConfig by compare-and-set. The register contains the decisions that
precede a machine, for all owners of a folder: locks, the records of hosts that are reserved and not
created yet, and the templates that are being deleted. A change is written with the version that was
read (``ConfigSpec.changeVersion``). vCenter refuses the change if another controller has written
since then; the change is then computed again from a new reading.

Threads of one process that change the register at the same time share one write.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...clock import Deadline
from ...errors import Busy, StockyardError
from . import api, specs
from .faults import is_a, translated
from .inventory import PROPERTIES, machine, machine_of, properties, together
from .lookup import Lookup
from .records import OPTIONS
from .session import Session
from .task import PROPERTIES as TASK
from .task import Tasks

NAME = "stockyard-register"
KIND = "stockyard.register"
PATIENCE = 120.0
WRITING = "write the register"
# Seconds before the first poll of a write, and the longest pause between two polls.
FIRST_LOOK, LONGEST_LOOK = 0.01, 0.5

Values = dict[str, str]
Edit = Callable[[Values], None]


@dataclass
class _PendingEdit:
    """One thread's change, and its result."""

    edit: Edit
    completed: bool = False
    error: BaseException | None = None
    waits: bool = True


@dataclass(frozen=True)
class Book:
    """The register as it was read."""

    values: Mapping[str, str] = field(default_factory=dict)
    change: str = ""
    ref: Any = None


class Register:
    """The register of one folder."""

    def __init__(self, session: Session, lookup: Lookup, tasks: Tasks) -> None:
        self.session = session
        self.lookup = lookup
        self.tasks = tasks
        self._ref: Any = lookup.child(NAME)
        self._last: Book | None = None
        self._writing = threading.Lock()
        self._queue = threading.Lock()
        self._pending_edits: list[_PendingEdit] = []

    def read(self) -> Book:
        """Return the register's current values; an empty book if no register exists yet."""
        for _try in range(2):
            ref = self._ref = self._ref or self.lookup.child(NAME)
            if ref is None:
                return Book()
            try:
                register_machine = machine(self.session, ref, NAME, OPTIONS)
                return Book(register_machine.values, register_machine.change, ref)
            except StockyardError as error:
                if not _is_missing(error):
                    raise
                self._ref = None
        return Book()

    def change(self, edit: Edit) -> None:
        """Change the register.

        :param edit: changes the current values in place, or raises; called again for each new
            attempt.
        :raises Busy: if other controllers wrote first for two minutes.
        """
        pending_edit = _PendingEdit(edit)
        with self._queue:
            self._pending_edits.append(pending_edit)
        with self._writing:
            if not pending_edit.completed:
                with self._queue:
                    pending_edits, self._pending_edits = self._pending_edits, []
                self._commit_batch(pending_edits)
        if pending_edit.error is not None:
            raise pending_edit.error

    def later(self, edit: Edit) -> None:
        """Queue a change for the next write or :meth:`flush`.

        No thread waits for such a change, and it may be lost.
        """
        with self._queue:
            self._pending_edits.append(_PendingEdit(edit, waits=False))

    def flush(self) -> None:
        """Write the queued changes."""
        if self._pending_edits:
            self.change(lambda _values: None)

    def remove(self) -> None:
        """Delete the register itself. No controller may be using it."""
        ref = self.read().ref
        if ref is not None:
            self.tasks.run("delete the register", NAME, ref.Destroy_Task, Deadline(PATIENCE))
            self._ref = self._last = None

    def _commit_batch(self, pending_edits: list[_PendingEdit]) -> None:
        try:
            self._commit(pending_edits)
        except BaseException as error:
            for pending_edit in pending_edits:
                pending_edit.error = pending_edit.error or error
            if not isinstance(error, StockyardError):
                raise
        finally:
            for pending_edit in pending_edits:
                pending_edit.completed = True

    def _commit(self, pending_edits: list[_PendingEdit]) -> None:
        deadline = Deadline(PATIENCE)
        # The result of the last write is used until another controller turns out to have written.
        book, self._last = self._last, None
        if book is not None and self._attempt(pending_edits, book, deadline, sure=False):
            return
        while not self._attempt(pending_edits, self.read(), deadline, sure=True):
            if deadline.passed():
                raise Busy(
                    "other controllers wrote to the register at every attempt.",
                    name=NAME,
                    remedy="wait, then run again",
                )
            # A random pause keeps two controllers from colliding repeatedly.
            deadline.pause(random.uniform(0.005, 0.05))  # noqa: S311

    def _attempt(
        self, pending_edits: list[_PendingEdit], book: Book, deadline: Deadline, *, sure: bool
    ) -> bool:
        """Try to write all edits, and return whether they are complete.

        :param sure: whether the register was just read; otherwise no edit is refused, and none
            counts as already applied.
        """
        old_values = dict(book.values)
        new_values = dict(old_values)
        for pending_edit in pending_edits:
            new_values = self._applied(pending_edit, new_values)
        # An empty value deletes a key.
        changes = {
            key: new_values.get(key, "")
            for key in {*old_values, *new_values}
            if old_values.get(key) != new_values.get(key)
        }
        if not sure and (not changes or any(pending_edit.error for pending_edit in pending_edits)):
            return False
        if not changes:
            return True
        if book.ref is None:
            return self._created(changes, deadline)
        return self._written(book, changes, deadline)

    def _applied(self, pending_edit: _PendingEdit, values: Values) -> Values:
        """Return the values after an edit; the unchanged values if the edit is refused."""
        new_values = dict(values)
        pending_edit.error = None
        try:
            pending_edit.edit(new_values)
        except StockyardError as error:
            pending_edit.error = error
            return values
        return new_values

    def _written(self, book: Book, changes: Values, deadline: Deadline) -> bool:
        spec = specs.reconfigure(changes, book.change)

        def write() -> None:
            task = self.session.change(WRITING, NAME, lambda: book.ref.ReconfigVM_Task(spec))
            self._last = self._after(book.ref, task, deadline)

        return self._tried(write)

    def _after(self, ref: Any, task: Any, deadline: Deadline) -> Book | None:
        """Wait for the end of a task, and return the register after it.

        One poll reads the task and the register, because all threads wait for the result.
        """
        pause = FIRST_LOOK
        while True:
            deadline.pause(pause)
            objects = dict(
                together(self.session, [(ref, (*PROPERTIES, OPTIONS)), (task, TASK)], NAME)
            )
            state = objects[task]["info.state"] if task in objects else "success"
            if state == "error":
                with translated(WRITING, NAME):
                    raise objects[task]["info.error"]
            if state == "success":
                register_machine = machine_of(ref, objects[ref]) if ref in objects else None
                return (
                    Book(register_machine.values, register_machine.change, ref)
                    if register_machine
                    else None
                )
            deadline.check(WRITING, name=NAME, remedy="inspect the task in vCenter, then run again")
            pause = min(2 * pause, LONGEST_LOOK)

    def _created(self, values: Values, deadline: Deadline) -> bool:
        """Create the register with its first values."""
        folder, store = self.lookup.made_folder(), self.lookup.datastore()
        name = properties(self.session, store, ("summary.name",), "datastore")["summary.name"]
        spec = specs.empty_machine(
            NAME, name, {KIND: "1", **{key: value for key, value in values.items() if value}}
        )
        return self._tried(
            lambda: self.tasks.run(
                WRITING, NAME, lambda: folder.CreateVM_Task(spec, self.lookup.pool), deadline
            )
        )

    def _tried(self, write: Callable[[], Any]) -> bool:
        """Write, and return false if another controller has written first."""
        try:
            write()
        except StockyardError as error:
            if is_a(
                error.__cause__, "ConcurrentAccess", "TaskInProgress", "DuplicateName"
            ) or _is_missing(error):
                self._ref = None if _is_missing(error) else self._ref
                return False
            raise
        return True


def _is_missing(error: StockyardError) -> bool:
    return isinstance(error.__cause__, api.vmodl().MethodFault) and is_a(
        error.__cause__, "ManagedObjectNotFound"
    )
