# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for vCenter's tasks: any number of them, from any number of threads, with one call to
vCenter at a time.

Of the threads that wait one looks at the tasks of all, and tells the others. Of those that take
longer one asks for news: it is a list view that says which tasks these are, so that one can be
added while the question is out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...clock import Deadline
from ...errors import DeadlineExceeded
from . import api
from .faults import LOST, is_a, translated
from .inventory import together
from .session import Session

# Seconds for one question.
LONGEST = 2
# Seconds for which a task counts as short: most are, and a look at all of them is one small call.
# Then, seconds before the first look, and the longest between two.
SHORT, FIRST_LOOK, LONGEST_LOOK = 0.3, 0.01, 0.1
# Seconds that a new task waits for the question that is out to be answered: the next one takes it
# along.
GRACE = 0.02
PROPERTIES = ("info.state", "info.error", "info.result")


@dataclass
class _Watch:
    """The view and the collector that go with it."""

    view: Any
    collector: Any
    version: str = ""
    shown: set[str] = field(default_factory=set)


class Tasks:
    """The tasks of one session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._changed = threading.Condition()
        self._showing = threading.Lock()
        self._open: dict[str, Any] = {}
        self._seen: dict[str, dict[str, Any]] = {}
        self._long: dict[str, Any] = {}
        self._looking = self._asking = False

    def run(self, what: str, name: str, start: Callable[[], Any], deadline: Deadline) -> Any:
        """Start a task, wait for its end and return its result.

        :raises StockyardError: what the task's fault is.
        """
        task = self.session.tell(what, name, start)
        ended = self._wait(task, what, name, deadline)
        if ended["info.state"] == "error":
            with translated(what, name):
                raise ended["info.error"]
        return ended.get("info.result")

    def _wait(self, task: Any, what: str, name: str, deadline: Deadline) -> dict[str, Any]:
        key = task._moId
        with self._changed:
            self._open[key] = task
        try:
            self._watch_shortly(key, what, name, deadline)
            with self._changed:
                self._long[key] = task
            shown = False
            while not self._ended(key):
                if deadline.passed():
                    raise DeadlineExceeded(
                        f"{what}: vCenter did not end the task within {deadline.seconds:g} s.",
                        name=name,
                        remedy="look at the task in vCenter, then run again",
                    )
                shown = self._turn(key, what, name, deadline, shown=shown)
            return self._seen[key]
        finally:
            with self._changed:
                self._open.pop(key, None)
                self._long.pop(key, None)
                self._seen.pop(key, None)

    @property
    def _asks(self) -> bool:
        """Whether a thread asks now; others change it meanwhile."""
        return self._asking

    def _ended(self, key: str) -> bool:
        return self._seen.get(key, {}).get("info.state") in ("success", "error")

    def _watch_shortly(self, key: str, what: str, name: str, deadline: Deadline) -> None:
        """Look at all tasks, or wait for whoever does, until this one ended or counts as long."""
        limit, pause = deadline.within(SHORT), FIRST_LOOK
        while not self._ended(key) and not limit.passed():
            with self._changed:
                if self._looking:
                    self._changed.wait(limit.left())
                    continue
                self._looking = True
            try:
                limit.pause(pause)
                self._look(what, name)
            finally:
                with self._changed:
                    self._looking = False
                    self._changed.notify_all()
            pause = min(1.5 * pause, LONGEST_LOOK)

    def _look(self, what: str, name: str) -> None:
        """See how all tasks are; one that is not known any more is left to who asks for
        news of it.
        """
        with self._changed:
            tasks = list(self._open.values())
        found = together(self.session, [(task, PROPERTIES) for task in tasks], f"{name}: {what}")
        with self._changed:
            for task, values in found:
                if task._moId in self._open:
                    self._seen.setdefault(task._moId, {}).update(values)

    def _turn(self, key: str, what: str, name: str, deadline: Deadline, *, shown: bool) -> bool:
        """Ask for news of all, or wait for whoever does.

        :param shown: whether the question that is out covers this task.
        :return: the same, of now.
        """
        with self._changed:
            if self._ended(key):
                return True
            if self._asking:
                self._changed.wait(min(1.0 if shown else GRACE, deadline.left()))
                late = self._asks and not shown
                if not late or self._ended(key):
                    return shown
            else:
                self._asking, late = True, False
        if late:
            self._show(what, name)
            return True
        try:
            self._ask(what, name, deadline)
        finally:
            with self._changed:
                self._asking = False
                self._changed.notify_all()
        return True

    def _ask(self, what: str, name: str, deadline: Deadline) -> None:
        seconds = max(1, min(LONGEST, int(deadline.left())))
        options = api.vmodl().query.PropertyCollector.WaitOptions(maxWaitSeconds=seconds)

        def question() -> tuple[_Watch, Any]:
            watch = self._watch()
            self._fill(watch)
            return watch, watch.collector.WaitForUpdatesEx(watch.version, options)

        self._show(what, name)
        watch, update = self.session.ask(what, name, lambda: self._rebuilt(question))
        if update is None:
            return
        watch.version = update.version
        with self._changed:
            for change in (o for f in update.filterSet or [] for o in f.objectSet or []):
                if change.obj._moId in self._open:
                    known = self._seen.setdefault(change.obj._moId, {})
                    known.update(
                        {c.name: c.val for c in change.changeSet or [] if c.op == "assign"}
                    )

    def _show(self, what: str, name: str) -> None:
        """Put new tasks into the view now: the question that is out covers them then."""
        self.session.ask(what, name, lambda: self._rebuilt(lambda: self._fill(self._watch())))

    def _fill(self, watch: _Watch) -> None:
        with self._showing:
            with self._changed:
                wanted = dict(self._long)
            fresh = [task for key, task in wanted.items() if key not in watch.shown]
            gone = [
                api.vim().Task(key, self.session.instance._stub)
                for key in watch.shown - wanted.keys()
            ]
            if fresh:
                watch.view.ModifyListView(fresh, gone)
                watch.shown = set(wanted)

    def _rebuilt(self, call: Callable[[], Any]) -> Any:
        """Do it, with a new view and collector when the old ones went with their session.

        So too when the line broke: news that were on it may be lost, and a new collector begins
        with how things are.
        """
        try:
            return call()
        except LOST:
            self.session.disown("tasks")
            raise
        except api.vmodl().MethodFault as fault:
            if not is_a(fault, "ManagedObjectNotFound", "InvalidCollectorVersion"):
                raise
            self.session.disown("tasks")
            return call()

    def _watch(self) -> _Watch:
        return self.session.own("tasks", self._make)

    def _make(self) -> _Watch:
        collect = api.vmodl().query.PropertyCollector
        view = self.session.content.viewManager.CreateListView([])
        collector = self.session.content.propertyCollector.CreatePropertyCollector()
        members = collect.TraversalSpec(
            name="members", path="view", skip=False, type=api.vim().view.ListView
        )
        what = collect.PropertySpec(type=api.vim().Task, pathSet=list(PROPERTIES))
        where = collect.ObjectSpec(obj=view, skip=True, selectSet=[members])
        collector.CreateFilter(collect.FilterSpec(propSet=[what], objectSet=[where]), False)
        return _Watch(view, collector)
