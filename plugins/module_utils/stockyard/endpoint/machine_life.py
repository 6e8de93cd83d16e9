# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of container machines: they are watched while they exist, and deleted when their last
container is gone and no client waits for an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from ..errors import StockyardError
from ..guest.security.reader.grammar import Refusal
from .containers import BUILT_IN_NETWORKS, Container, Containers
from .events import RECENT, Event, EventBus
from .lines import Lines
from .machines import CONTAINER_ID, CONTAINER_NAME, Machines

# Seconds to wait for the event of a removal, and between two attempts to watch a machine.
EVENT_WAIT, WATCH_RETRY = 5.0, 1.0


class MachineLife:
    """The container machines of an endpoint.

    :param progress: receives a line for each failure that no client is told.
    """

    def __init__(
        self,
        machines: Machines,
        lines: Lines,
        containers: Containers,
        bus: EventBus,
        progress: Callable[[str], None],
    ) -> None:
        self.machines = machines
        self.lines = lines
        self.containers = containers
        self.bus = bus
        self.progress = progress
        # Seconds to wait until a machine is watched.
        self.watch_wait = EVENT_WAIT
        # Called with each event of a machine.
        self.observers: list[Callable[[str, Event], None]] = []
        # Whether an event is not for clients.
        self.is_hidden: Callable[[Event], bool] = lambda _event: False
        self._uses: Counter[str] = Counter()
        # Removed containers whose event was not sent yet, by machine.
        self._unsent: dict[str, set[str]] = {}
        # The containers whose event was sent, which can precede the answer to the removal.
        self._sent: deque[str] = deque(maxlen=RECENT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._known: set[str] = set()
        self._deletions: dict[str, asyncio.Task[None]] = {}
        # The machines that did not answer the last time.
        self._silent: set[str] = set()

    @property
    def names(self) -> list[str]:
        """Return the names of all container machines."""
        return sorted(self._known)

    async def load(self) -> None:
        """Find the machines and containers of an earlier run of the endpoint."""
        machines = await self.machines.all()
        for machine in machines:
            # Docker in a machine that runs corrects this.
            if identifier := machine.facts.get(CONTAINER_ID):
                name = machine.facts.get(CONTAINER_NAME, "")
                self.containers.add(Container(identifier, name, machine.name))
        await asyncio.gather(*(self.adopt(machine.name) for machine in machines))
        await asyncio.gather(*(self._refresh(machine.name) for machine in machines))

    async def adopt(self, machine: str) -> None:
        """Watch a machine from now on. Return when none of its events will be missed."""
        self._known.add(machine)
        watched = asyncio.Event()
        self._start(self._watch(machine, watched.set))
        # A machine that does not answer is watched when it does.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.watch_wait):
                await watched.wait()

    @contextmanager
    def use(self, machine: str) -> Iterator[None]:
        """Keep a machine while an exchange with it runs."""
        self._uses[machine] += 1
        try:
            yield
        finally:
            self._uses[machine] -= 1
            self.settle(machine)

    def removed(self, container: Container) -> None:
        """Note that a container was removed: its machine ends when clients had the event."""
        self.containers.remove(container.id)
        if container.id in self._sent:
            return
        self._unsent.setdefault(container.machine, set()).add(container.id)
        loop = asyncio.get_running_loop()
        loop.call_later(EVENT_WAIT, self._note_sent, container.machine, container.id)

    def record(self, container: Container) -> None:
        """Write the first container of a machine into the record of the machine."""
        if self.containers.on(container.machine) == [container]:
            facts = {CONTAINER_NAME: container.name, CONTAINER_ID: container.id}
            self._start(self._note(container.machine, facts))

    def abandon(self, machine: str) -> None:
        """Delete a machine that does not run any more, with its containers."""
        for container in self.containers.on(machine):
            self.containers.remove(container.id)
        self._unsent.pop(machine, None)
        self.settle(machine)

    def settle(self, machine: str) -> None:
        """Delete a machine that nothing uses any more."""
        if (
            machine in self._known
            and not self._uses[machine]
            and not self._unsent.get(machine)
            and not self.containers.on(machine)
        ):
            self._known.discard(machine)
            self._deletions[machine] = self._start(self._delete(machine))

    async def deleted(self, machine: str) -> None:
        """Wait until a machine that is being deleted is gone, or its deletion failed."""
        if deletion := self._deletions.get(machine):
            await asyncio.wait([deletion])

    async def close(self) -> None:
        """End all tasks; deletions are completed."""
        deletions = [task for task in self._tasks if task.get_name() == "delete"]
        for task in self._tasks - set(deletions):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        if work.__name__ == "_delete":
            task.set_name("delete")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _delete(self, machine: str) -> None:
        self.lines.forget(machine)
        try:
            await self.machines.delete(machine)
        except StockyardError as error:
            self.progress(f"machine {machine} could not be deleted: {error}")
        self._uses.pop(machine, None)
        self._unsent.pop(machine, None)
        self._deletions.pop(machine, None)

    async def _note(self, machine: str, facts: dict[str, str]) -> None:
        try:
            await self.machines.note(machine, facts)
        except StockyardError as error:
            self.progress(f"machine {machine}: {error}")

    async def _watch(self, machine: str, watched: Callable[[], None]) -> None:
        while machine in self._known:
            with contextlib.suppress(Refusal):
                async for event in self.lines.events(machine, watched):
                    self._received(machine, event)
            await asyncio.sleep(WATCH_RETRY)
            if machine in self._known:
                await self._refresh(machine)

    def _received(self, machine: str, event: Event) -> None:
        if not self.is_hidden(event):
            self.bus.publish(event)
        for observer in self.observers:
            observer(machine, event)
        if (event.get("Type"), event.get("Action")) == ("container", "destroy"):
            identifier = str((event.get("Actor") or {}).get("ID", ""))
            self.containers.remove(identifier)
            self._sent.append(identifier)
            self._note_sent(machine, identifier)

    def _note_sent(self, machine: str, container_id: str) -> None:
        self._unsent.get(machine, set()).discard(container_id)
        self.settle(machine)

    async def _refresh(self, machine: str) -> None:
        """Enter the containers of a machine into the index as Docker in it lists them. A machine
        that does not answer stays as it is: it can still have containers.
        """
        try:
            reply = await self.lines.ask(machine, "GET", "/containers/json?all=1")
        except Refusal as refusal:
            if machine not in self._silent:
                self.progress(f"machine {machine}: {refusal}")
            self._silent.add(machine)
            return
        self._silent.discard(machine)
        if reply.status != HTTPStatus.OK:
            return
        listed = reply.json()
        present = {str(entry["Id"]) for entry in listed}
        for container in self.containers.on(machine):
            if container.id not in present:
                self.containers.remove(container.id)
        for entry in listed:
            # A linked container has further names, such as /web/db.
            names = [name for name in entry["Names"] if name.count("/") == 1]
            name = str(names[0]).removeprefix("/")
            networks = (entry.get("NetworkSettings") or {}).get("Networks") or {}
            user_defined = frozenset(networks) - frozenset(BUILT_IN_NETWORKS)
            mounts = [mount for mount in entry.get("Mounts") or () if mount["Type"] == "volume"]
            volumes = frozenset(str(mount["Name"]) for mount in mounts)
            self.containers.add(Container(str(entry["Id"]), name, machine, user_defined, volumes))
        self.settle(machine)
