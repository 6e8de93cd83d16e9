# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The power of container machines: a machine without a running container is suspended after a
minute, and a call that needs it wakes it. A machine that ended by itself is noticed.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from http import HTTPStatus

from ..errors import StockyardError
from ..guest.security.reader.grammar import Refusal
from ..model.host import SUSPENDED
from .containers import Containers
from .events import EventBus, container_event
from .lines import Lines
from .machines import GONE, RUNNING, Machines
from .named_locks import NamedLocks
from .snapshots import KILLED, Snapshots, copied, end, is_running, removes_itself, unknown

# Seconds without a running container or a call, and those after a suspension that failed.
QUIET, RETRY = 60.0, 600.0


class MachinePower:
    """The machines of an endpoint that run, and those that do not.

    :param progress: receives a line for each failure that no client is told.
    """

    def __init__(
        self,
        machines: Machines,
        lines: Lines,
        containers: Containers,
        snapshots: Snapshots,
        bus: EventBus,
        progress: Callable[[str], None],
    ) -> None:
        self.machines = machines
        self.lines = lines
        self.containers = containers
        self.snapshots = snapshots
        self.bus = bus
        self.progress = progress
        # Seconds after which a machine without a running container is suspended.
        self.quiet = QUIET
        self._down: set[str] = set()
        self._locks = NamedLocks()
        # The machines that something waits for.
        self._started: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        # The time of the last activity of each machine, by the clock of the loop.
        self._active: dict[str, float] = {}

    def is_up(self, machine: str) -> bool:
        """Return whether a machine runs, as far as it is known."""
        return machine not in self._down

    async def wait_up(self, machine: str) -> None:
        """Wait until a machine runs."""
        while not self.is_up(machine):
            await self._started[machine].wait()

    def touch(self, machine: str) -> None:
        """Note that something happened in a machine."""
        self._active[machine] = asyncio.get_running_loop().time()

    def activity(self, machine: str) -> float:
        """Return the time of the last activity of a machine, by the clock of the loop."""
        return self._active.get(machine, 0.0)

    def is_quiet(self, machine: str) -> bool:
        """Return whether a machine runs, and nothing happened in it for a minute."""
        now = asyncio.get_running_loop().time()
        return self.is_up(machine) and now - self._active.setdefault(machine, now) >= self.quiet

    async def suspend(self, machine: str, is_used: Callable[[], bool]) -> None:
        """Suspend a machine in which no container runs.

        :param is_used: returns whether a client uses the machine.
        """
        async with self._locks.lock(machine):
            if not self.is_up(machine) or await self._has_running(machine) or is_used():
                return
            # From here on, a call waits for the lock and wakes the machine again.
            self._set_down(machine)
            try:
                await self.machines.suspend(machine)
            except StockyardError as error:
                self.progress(f"machine {machine} is not suspended: {error}")
                self._set_up(machine)
                self._active[machine] += RETRY

    async def wake(self, machine: str) -> None:
        """Let a machine run.

        :raises Refusal: if it cannot.
        """
        async with self._locks.lock(machine):
            if self.is_up(machine):
                return
            try:
                await self.machines.wake(machine)
            except StockyardError as error:
                raise Refusal(
                    f"The machine of the container cannot be started: {error}",
                    HTTPStatus.INTERNAL_SERVER_ERROR,
                ) from error
            self._set_up(machine)

    async def check(self, machine: str) -> bool:
        """Note whether a machine ended by itself. Return whether it runs."""
        async with self._locks.lock(machine):
            if not self.is_up(machine):
                return False
            try:
                state = await self.machines.state(machine)
            except StockyardError:
                return True
            if state == RUNNING:
                return True
            self.note_end(machine, state)
            return False

    def note_end(self, machine: str, state: str) -> None:
        """Note that a machine does not run: its containers ended with it, unless its memory is
        saved.
        """
        self._set_down(machine)
        if state in (SUSPENDED, "paused"):
            return
        for container in self.containers.on(machine):
            facts = self.snapshots.get(container.id) or unknown(container.id, container.name)
            was_running = is_running(facts)
            if was_running:
                facts = copied(facts)
                end(facts, KILLED, time.time())
                self.bus.publish(container_event("die", facts, exitCode=str(KILLED)))
            self.snapshots.put(facts)
            if state == GONE or (was_running and removes_itself(facts)):
                self._remove(container.id)

    def forget(self, machine: str) -> None:
        """Forget a machine that is deleted."""
        self._down.discard(machine)
        self._active.pop(machine, None)
        if started := self._started.pop(machine, None):
            started.set()

    def _remove(self, container_id: str) -> None:
        """Remove a container that is lost with its machine."""
        facts = self.snapshots.get(container_id)
        self.containers.remove(container_id)
        self.snapshots.remove(container_id)
        if facts:
            self.bus.publish(container_event("destroy", facts))

    def _set_down(self, machine: str) -> None:
        self._down.add(machine)
        self._started[machine].clear()
        self.lines.forget(machine)

    def _set_up(self, machine: str) -> None:
        # Lines of before can be dead.
        self.lines.forget(machine)
        self._down.discard(machine)
        self._started[machine].set()
        self.touch(machine)

    async def _has_running(self, machine: str) -> bool:
        """Return whether a container runs in a machine, or Docker in it does not say."""
        try:
            reply = await self.lines.ask(machine, "GET", "/containers/json")
        except Refusal:
            return True
        if reply.status != HTTPStatus.OK or reply.json():
            self.touch(machine)
            return True
        return False
