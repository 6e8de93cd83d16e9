# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The yard's book: a machine that is never started, whose extraConfig all controllers change by
compare and set.

It holds what has to be decided before there is a machine, for all owners of a folder: locks, the
records of hosts that are reserved and not made yet, and which templates are on their way out. A
change is written with the version that was read (``ConfigSpec.changeVersion``), and vCenter refuses
it when somebody was quicker; then it is thought over again.

Threads of one process that want something at once share one write.
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
# Seconds before the first look at what was written, and the longest between two.
FIRST_LOOK, LONGEST_LOOK = 0.01, 0.5

Values = dict[str, str]
Edit = Callable[[Values], None]


@dataclass
class _PendingEdit:
    """One thread's change, and what became of it."""

    edit: Edit
    done: bool = False
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
        """What it holds now; nothing when there is none yet."""
        for _try in range(2):
            ref = self._ref = self._ref or self.lookup.child(NAME)
            if ref is None:
                return Book()
            try:
                found = machine(self.session, ref, NAME, OPTIONS)
                return Book(found.values, found.change, ref)
            except StockyardError as error:
                if not _gone(error):
                    raise
                self._ref = None
        return Book()

    def change(self, edit: Edit) -> None:
        """Change it: ``edit`` is given the values of now to change in place, as often as it takes,
        or raises.

        :raises Busy: when others were quicker for two minutes.
        """
        wish = _PendingEdit(edit)
        with self._queue:
            self._pending_edits.append(wish)
        with self._writing:
            if not wish.done:
                with self._queue:
                    wishes, self._pending_edits = self._pending_edits, []
                self._commit_batch(wishes)
        if wish.error is not None:
            raise wish.error

    def later(self, edit: Edit) -> None:
        """Change it along with the next change, or at :meth:`flush`: for what nobody waits for, and
        may be lost.
        """
        with self._queue:
            self._pending_edits.append(_PendingEdit(edit, waits=False))

    def flush(self) -> None:
        """Make the changes that were left for later."""
        if self._pending_edits:
            self.change(lambda _values: None)

    def remove(self) -> None:
        """Take the register itself away. Nobody may be using it."""
        ref = self.read().ref
        if ref is not None:
            self.tasks.run("remove the register", NAME, ref.Destroy_Task, Deadline(PATIENCE))
            self._ref = self._last = None

    def _commit_batch(self, wishes: list[_PendingEdit]) -> None:
        try:
            self._commit(wishes)
        except BaseException as error:
            for wish in wishes:
                wish.error = wish.error or error
            if not isinstance(error, StockyardError):
                raise
        finally:
            for wish in wishes:
                wish.done = True

    def _commit(self, wishes: list[_PendingEdit]) -> None:
        deadline = Deadline(PATIENCE)
        # How it was when it was written last serves until it turns out that others wrote since.
        book, self._last = self._last, None
        if book is not None and self._attempt(wishes, book, deadline, sure=False):
            return
        while not self._attempt(wishes, self.read(), deadline, sure=True):
            if deadline.passed():
                raise Busy(
                    "others write to the register all the time.",
                    name=NAME,
                    remedy="wait, then run again",
                )
            # so that two do not meet again and again
            deadline.pause(random.uniform(0.005, 0.05))  # noqa: S311

    def _attempt(
        self, wishes: list[_PendingEdit], book: Book, deadline: Deadline, *, sure: bool
    ) -> bool:
        """Whether all is done.

        :param sure: whether the register was just read; else no wish is refused, and none found to
            be granted already.
        """
        before = dict(book.values)
        after = dict(before)
        for wish in wishes:
            after = self._applied(wish, after)
        # An empty value takes a key away.
        changes = {k: after.get(k, "") for k in {*before, *after} if before.get(k) != after.get(k)}
        if not sure and (not changes or any(wish.error for wish in wishes)):
            return False
        if not changes:
            return True
        if book.ref is None:
            return self._created(changes, deadline)
        return self._written(book, changes, deadline)

    def _applied(self, wish: _PendingEdit, values: Values) -> Values:
        """The values after a change; as they were when it is refused."""
        own = dict(values)
        wish.error = None
        try:
            wish.edit(own)
        except StockyardError as error:
            wish.error = error
            return values
        return own

    def _written(self, book: Book, changes: Values, deadline: Deadline) -> bool:
        spec = specs.reconfigure(changes, book.change)

        def write() -> None:
            task = self.session.tell(WRITING, NAME, lambda: book.ref.ReconfigVM_Task(spec))
            self._last = self._after(book.ref, task, deadline)

        return self._tried(write)

    def _after(self, ref: Any, task: Any, deadline: Deadline) -> Book | None:
        """Wait for the end of a task, and see how the register is then: one look tells both, and
        all wait for it.
        """
        pause = FIRST_LOOK
        while True:
            deadline.pause(pause)
            found = dict(
                together(self.session, [(ref, (*PROPERTIES, OPTIONS)), (task, TASK)], NAME)
            )
            state = found[task]["info.state"] if task in found else "success"
            if state == "error":
                with translated(WRITING, NAME):
                    raise found[task]["info.error"]
            if state == "success":
                now = machine_of(ref, found[ref]) if ref in found else None
                return Book(now.values, now.change, ref) if now else None
            deadline.check(WRITING, name=NAME, remedy="look at the task in vCenter, then run again")
            pause = min(2 * pause, LONGEST_LOOK)

    def _created(self, values: Values, deadline: Deadline) -> bool:
        """Make the register with its first values in it."""
        folder, store = self.lookup.made_folder(), self.lookup.datastore()
        name = properties(self.session, store, ("summary.name",), "datastore")["summary.name"]
        spec = specs.empty_machine(
            NAME, name, {KIND: "1", **{k: v for k, v in values.items() if v}}
        )
        return self._tried(
            lambda: self.tasks.run(
                WRITING, NAME, lambda: folder.CreateVM_Task(spec, self.lookup.pool), deadline
            )
        )

    def _tried(self, write: Callable[[], Any]) -> bool:
        """Whether it was written; not, when another controller was quicker."""
        try:
            write()
        except StockyardError as error:
            if is_a(
                error.__cause__, "ConcurrentAccess", "TaskInProgress", "DuplicateName"
            ) or _gone(error):
                self._ref = None if _gone(error) else self._ref
                return False
            raise
        return True


def _gone(error: StockyardError) -> bool:
    return isinstance(error.__cause__, api.vmodl().MethodFault) and is_a(
        error.__cause__, "ManagedObjectNotFound"
    )
