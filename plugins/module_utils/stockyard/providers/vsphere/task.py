# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for vCenter's tasks: any number of tasks and threads, with one call to vCenter at a time.

One of the waiting threads polls the tasks of all threads and notifies the others. For tasks that
take longer, one thread waits for updates: a list view contains these tasks, so that a task can be
added while the request is in progress.
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

# Seconds for one request.
LONGEST = 2
# Seconds for which a task counts as short: most tasks are, and a poll of all of them is one small
# call. Then, seconds before the first poll, and the longest pause between two polls.
SHORT, FIRST_LOOK, LONGEST_LOOK = 0.3, 0.01, 0.1
# Seconds that a new task waits for the answer of the request in progress: the next request covers
# the task.
GRACE = 0.02
PROPERTIES = ("info.state", "info.error", "info.result")


@dataclass
class _Watch:
    """The list view of the tasks, and its collector."""

    view: Any
    collector: Any
    version: str = ""
    covered_keys: set[str] = field(default_factory=set)


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

    def run(self, action: str, name: str, start: Callable[[], Any], deadline: Deadline) -> Any:
        """Start a task, wait for its end and return its result.

        :raises StockyardError: the translation of the task's fault.
        """
        task = self.session.change(action, name, start)
        outcome = self._wait(task, action, name, deadline)
        if outcome["info.state"] == "error":
            with translated(action, name):
                raise outcome["info.error"]
        return outcome.get("info.result")

    def _wait(self, task: Any, action: str, name: str, deadline: Deadline) -> dict[str, Any]:
        key = task._moId
        with self._changed:
            self._open[key] = task
        try:
            self._watch_shortly(key, action, name, deadline)
            with self._changed:
                self._long[key] = task
            is_covered = False
            while not self._ended(key):
                if deadline.passed():
                    raise DeadlineExceeded(
                        f"cannot {action}: vCenter did not end the task within "
                        f"{deadline.seconds:g} s.",
                        name=name,
                        remedy="inspect the task in vCenter, then run again",
                    )
                is_covered = self._turn(key, action, name, deadline, is_covered=is_covered)
            return self._seen[key]
        finally:
            with self._changed:
                self._open.pop(key, None)
                self._long.pop(key, None)
                self._seen.pop(key, None)

    @property
    def _asks(self) -> bool:
        """Return whether a thread is waiting for updates now; other threads change this value."""
        return self._asking

    def _ended(self, key: str) -> bool:
        return self._seen.get(key, {}).get("info.state") in ("success", "error")

    def _watch_shortly(self, key: str, action: str, name: str, deadline: Deadline) -> None:
        """Poll all tasks, or wait for the thread that polls, until this task ends or is long."""
        limit, pause = deadline.within(SHORT), FIRST_LOOK
        while not self._ended(key) and not limit.passed():
            with self._changed:
                if self._looking:
                    self._changed.wait(limit.left())
                    continue
                self._looking = True
            try:
                limit.pause(pause)
                self._look(action, name)
            finally:
                with self._changed:
                    self._looking = False
                    self._changed.notify_all()
            pause = min(1.5 * pause, LONGEST_LOOK)

    def _look(self, action: str, name: str) -> None:
        """Read the state of all tasks.

        A task that is no longer known is left to the thread that waits for its updates.
        """
        with self._changed:
            tasks = list(self._open.values())
        objects = together(
            self.session, [(task, PROPERTIES) for task in tasks], f"{name}: {action}"
        )
        with self._changed:
            for task, values in objects:
                if task._moId in self._open:
                    self._seen.setdefault(task._moId, {}).update(values)

    def _turn(
        self, key: str, action: str, name: str, deadline: Deadline, *, is_covered: bool
    ) -> bool:
        """Wait for updates of all tasks, or for the thread that does.

        :param is_covered: whether the request in progress covers this task.
        :return: whether the current request covers this task.
        """
        with self._changed:
            if self._ended(key):
                return True
            if self._asking:
                self._changed.wait(min(1.0 if is_covered else GRACE, deadline.left()))
                is_late = self._asks and not is_covered
                if not is_late or self._ended(key):
                    return is_covered
            else:
                self._asking, is_late = True, False
        if is_late:
            self._show(action, name)
            return True
        try:
            self._start(action, name, deadline)
        finally:
            with self._changed:
                self._asking = False
                self._changed.notify_all()
        return True

    def _start(self, action: str, name: str, deadline: Deadline) -> None:
        seconds = max(1, min(LONGEST, int(deadline.left())))
        options = api.vmodl().query.PropertyCollector.WaitOptions(maxWaitSeconds=seconds)

        def question() -> tuple[_Watch, Any]:
            watch = self._watch()
            self._fill(watch)
            return watch, watch.collector.WaitForUpdatesEx(watch.version, options)

        self._show(action, name)
        watch, update = self.session.read(action, name, lambda: self._rebuilt(question))
        if update is None:
            return
        watch.version = update.version
        with self._changed:
            for change in (
                object_update
                for filter_update in update.filterSet or []
                for object_update in filter_update.objectSet or []
            ):
                if change.obj._moId in self._open:
                    values = self._seen.setdefault(change.obj._moId, {})
                    values.update(
                        {
                            property_change.name: property_change.val
                            for property_change in change.changeSet or []
                            if property_change.op == "assign"
                        }
                    )

    def _show(self, action: str, name: str) -> None:
        """Add new tasks to the view now, so that the request in progress covers them."""
        self.session.read(action, name, lambda: self._rebuilt(lambda: self._fill(self._watch())))

    def _fill(self, watch: _Watch) -> None:
        with self._showing:
            with self._changed:
                long_tasks = dict(self._long)
            new_tasks = [task for key, task in long_tasks.items() if key not in watch.covered_keys]
            ended_tasks = [
                api.vim().Task(key, self.session.instance._stub)
                for key in watch.covered_keys - long_tasks.keys()
            ]
            if new_tasks:
                watch.view.ModifyListView(new_tasks, ended_tasks)
                watch.covered_keys = set(long_tasks)

    def _rebuilt(self, call: Callable[[], Any]) -> Any:
        """Make a call, with a new view and collector if the old ones ended with their session.

        After a broken connection they are replaced too: updates may have been lost with the
        connection, and a new collector begins with the current state.
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
        return self.session.session_object("tasks", self._make)

    def _make(self) -> _Watch:
        collector_class = api.vmodl().query.PropertyCollector
        view = self.session.content.viewManager.CreateListView([])
        collector = self.session.content.propertyCollector.CreatePropertyCollector()
        members = collector_class.TraversalSpec(
            name="members", path="view", skip=False, type=api.vim().view.ListView
        )
        property_spec = collector_class.PropertySpec(type=api.vim().Task, pathSet=list(PROPERTIES))
        object_spec = collector_class.ObjectSpec(obj=view, skip=True, selectSet=[members])
        collector.CreateFilter(
            collector_class.FilterSpec(propSet=[property_spec], objectSet=[object_spec]), False
        )
        return _Watch(view, collector)
