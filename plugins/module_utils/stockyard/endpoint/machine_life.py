# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of container machines: they are watched while they run, suspended while no container
runs in them, and deleted when their last container is gone and no client waits for an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from ..errors import StockyardError
from ..guest.security.reader.grammar import Refusal
from ..model.container_machine import CONTAINER_ID, CONTAINER_NAME
from .container_list import Entry, entry_name, sound_entries
from .containers import BUILT_IN_NETWORKS, Container, Containers
from .events import RECENT, Event, EventBus, container_event
from .facts_keeper import FactsKeeper
from .lines import Lines
from .machine_power import MachinePower
from .machines import IMAGE_HOST, RUNNING, Machine, Machines
from .snapshots import (
    PLACEMENT,
    Facts,
    Snapshots,
    changes_alone,
    is_complete,
    is_running,
    placement_of,
    restarts,
    unknown,
    unpack,
)

# Seconds to wait for the event of a removal, and between two attempts to watch a machine.
EVENT_WAIT, WATCH_RETRY = 5.0, 1.0
# Seconds in which the hypervisor notices that a machine ended, and between two looks at it.
NOTICE, LOOK = 3.0, 0.3
# The longest pause, in seconds, before a machine that ended again and again is booted.
LONGEST_PAUSE = 60.0
# The events of a container after which its facts differ.
_CHANGES = (
    "create",
    "start",
    "die",
    "pause",
    "unpause",
    "rename",
    "update",
    "oom",
    "health_status",
)


class MachineLife:
    """The container machines of an endpoint.

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
        self.power = MachinePower(machines, lines, containers, snapshots, bus, progress)
        self.keeper = FactsKeeper(machines, lines, containers, snapshots, progress)
        # Seconds to wait until a machine is watched.
        self.watch_wait = EVENT_WAIT
        # Called with each event of a machine.
        self.observers: list[Callable[[str, Event], None]] = []
        # Whether an event is not for clients.
        self.is_hidden: Callable[[Event], bool] = lambda _event: False
        # The machines that stay without a container.
        self.reserved: set[str] = set()
        self._uses: Counter[str] = Counter()
        # Removed containers whose event was not sent yet, by machine.
        self._unsent: dict[str, set[str]] = {}
        # The containers whose event was sent, which can precede the answer to the removal.
        self._sent: deque[str] = deque(maxlen=RECENT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._known: set[str] = set()
        # While the endpoint starts: the containers whose record names their networks and volumes.
        self._placed: set[str] = set()
        # The containers of the image host, which forks have too.
        self._copied: frozenset[str] = frozenset()
        self._deletions: dict[str, asyncio.Task[None]] = {}
        # The machines that did not answer the last time.
        self._silent: set[str] = set()
        # Set while the events of a machine are received.
        self._watched: dict[str, asyncio.Event] = {}
        # How often each machine was booted because it ended.
        self._boots: Counter[str] = Counter()

    @property
    def names(self) -> list[str]:
        """Return the names of all container machines."""
        return sorted(self._known)

    async def load(self) -> None:
        """Find the machines and containers of an earlier run of the endpoint."""
        machines = await self.machines.all()
        for machine in machines:
            self._restore(machine)
        self._copied = await self._ids_in(IMAGE_HOST)
        running = [machine.name for machine in machines if machine.state == RUNNING]
        await asyncio.gather(*(self.adopt(name) for name in running))
        await asyncio.gather(*(self._refresh(name, starting=True) for name in running))
        self._placed.clear()
        for machine in machines:
            if machine.state != RUNNING:
                await self.adopt(machine.name, machine.state)
        self._start(self._suspend_quiet())

    async def adopt(self, machine: str, state: str = RUNNING) -> None:
        """Watch a machine from now on. Return when none of its events will be missed.

        :param state: the state of the machine.
        """
        self._known.add(machine)
        self._watched[machine] = asyncio.Event()
        if state != RUNNING:
            before = self._running_in(machine)
            self.power.note_end(machine, state)
            self._recover(machine, before)
        self._start(self._watch(machine))
        await self._wait_watched(machine)

    @asynccontextmanager
    async def use(self, machine: str) -> AsyncIterator[None]:
        """Keep a machine running while an exchange with it runs.

        :raises Refusal: if it does not run and cannot be started.
        """
        self._uses[machine] += 1
        try:
            if not self.power.is_up(machine):
                await self.power.wake(machine)
                await self._wait_watched(machine)
            yield
        finally:
            self._uses[machine] -= 1
            self.power.touch(machine)
            self.settle(machine)

    def facts(self, container: Container) -> Facts:
        """Return the last known facts of a container."""
        return self.snapshots.get(container.id) or unknown(container.id, container.name)

    async def is_lost(self, machine: str) -> bool:
        """Return whether a machine that does not answer ended; then its containers ended too."""
        before = self._running_in(machine)
        if await self.power.check(machine):
            return False
        self._recover(machine, before)
        return True

    async def has_ended(self, machine: str) -> bool:
        """Return whether a machine that broke a line ended, which can show after a moment."""
        loop = asyncio.get_running_loop()
        end = loop.time() + NOTICE
        while not await self.is_lost(machine):
            if loop.time() >= end:
                return False
            await asyncio.sleep(LOOK)
        return True

    def removed(self, container: Container) -> None:
        """Note that a container was removed: its machine ends when clients had the event."""
        self.containers.remove(container.id)
        self.snapshots.remove(container.id)
        if container.id in self._sent:
            return
        self._unsent.setdefault(container.machine, set()).add(container.id)
        loop = asyncio.get_running_loop()
        loop.call_later(EVENT_WAIT, self._note_sent, container.machine, container.id)

    def record(self, container: Container, host: dict[str, Any]) -> None:
        """Write a new container into the record of its machine.

        :param host: its ``HostConfig``. Docker is asked for the other facts later.
        """
        facts = unknown(container.id, container.name)
        self.snapshots.put({**facts, "State": {"Status": "created"}, "HostConfig": host})
        self._start(self.keeper.save(container.machine))
        self.keeper.note_change(container.machine, container.id)

    def discard(self, container: Container) -> None:
        """Remove a container whose machine does not run, without starting the machine."""
        facts = self.facts(container)
        self.containers.remove(container.id)
        self.snapshots.remove(container.id)
        self.bus.publish(container_event("destroy", facts))
        self.settle(container.machine)

    def settle(self, machine: str) -> None:
        """Delete a machine that nothing uses any more."""
        if (
            machine in self._known
            and machine not in self.reserved
            and not self._uses[machine]
            and not self._unsent.get(machine)
            and not self.containers.on(machine)
        ):
            self._known.discard(machine)
            self._deletions[machine] = self._start(self._delete(machine))

    def delete_unadopted(self, machine: str) -> None:
        """Delete a machine without containers that is perhaps not watched yet."""
        if machine not in self._deletions:
            self._known.add(machine)
        self.settle(machine)

    def is_elsewhere(self, container_id: str, machine: str) -> bool:
        """Return whether a container is in another machine: a machine cannot speak for it."""
        container = self.containers.with_id(container_id)
        return container is not None and container.machine != machine

    @property
    def deleting(self) -> list[str]:
        """Return the names of the machines that are being deleted."""
        return list(self._deletions)

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
        await self.keeper.close()

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        if work.__name__ == "_delete":
            task.set_name("delete")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _delete(self, machine: str) -> None:
        self.lines.forget(machine)
        self.power.forget(machine)
        self.keeper.forget(machine)
        try:
            await self.machines.delete(machine)
        except StockyardError as error:
            self.progress(f"machine {machine} could not be deleted: {error}")
        for known in (self._uses, self._unsent, self._watched, self._boots, self._deletions):
            known.pop(machine, None)

    def _restore(self, machine: Machine) -> None:
        """Enter the containers that the record of a machine names. Docker in a machine that runs
        corrects this.
        """
        if identifier := machine.facts.get(CONTAINER_ID):
            name = machine.facts.get(CONTAINER_NAME, "")
            self.containers.add(Container(identifier, name, machine.name))
        for facts in unpack(machine.containers):
            number, name = str(facts["Id"]), str(facts.get("Name") or "").removeprefix("/")
            placement = placement_of(facts)
            networks, volumes = placement or _used(facts)
            if placement:
                self._placed.add(number)
            if is_complete(facts):
                self.snapshots.put({key: facts[key] for key in facts if key != PLACEMENT})
            # The endpoint chose a name that it wrote with a placement.
            if placement or not self._is_taken(name, machine.name):
                self.containers.add(Container(number, name, machine.name, networks, volumes))

    async def _watch(self, machine: str) -> None:
        watched = self._watched[machine]
        while machine in self._known:
            await self.power.wait_up(machine)
            with contextlib.suppress(Refusal):
                async for event in self.lines.events(machine, watched.set):
                    self._received(machine, event)
            watched.clear()
            if machine not in self._known or await self.is_lost(machine):
                continue
            await asyncio.sleep(WATCH_RETRY)
            if machine in self._known and self.power.is_up(machine):
                await self._refresh(machine)

    async def _wait_watched(self, machine: str) -> None:
        # A machine that does not answer is watched when it does.
        watched = self._watched.get(machine)
        if watched and self.power.is_up(machine):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.watch_wait):
                    await watched.wait()

    def _running_in(self, machine: str) -> list[Facts]:
        facts = [self.facts(container) for container in self.containers.on(machine)]
        return [known for known in facts if is_running(known)]

    def _running_ids(self, machine: str) -> set[str]:
        return {str(facts["Id"]) for facts in self._running_in(machine)}

    def _recover(self, machine: str, before: list[Facts]) -> None:
        """Boot a machine that ended, if Docker in it then starts a container again.

        :param before: the facts of the containers that ran.
        """
        self.keeper.note_change(machine)
        ended = [facts for facts in before if facts["Id"] not in self._running_ids(machine)]
        if any(restarts(facts) for facts in ended) and self.containers.on(machine):
            self._start(self._boot(machine))
        self.settle(machine)

    async def _boot(self, machine: str) -> None:
        if boots := self._boots[machine]:
            await asyncio.sleep(min(2.0**boots, LONGEST_PAUSE))
        self._boots[machine] += 1
        try:
            async with self.use(machine):
                pass
        except Refusal as refusal:
            self.progress(f"machine {machine}: {refusal}")

    async def _suspend_quiet(self) -> None:
        """Suspend the machines in which nothing happens."""
        while True:
            await asyncio.sleep(self.power.quiet / 4)
            for machine in self.names:
                is_used = self._uses[machine] or machine in self.reserved
                if not is_used and self.power.is_quiet(machine):
                    self._start(self._suspend(machine))

    async def _suspend(self, machine: str) -> None:
        activity = self.power.activity(machine)
        # The facts answer while the machine does not run.
        await self._refresh(machine)
        await self.keeper.save(machine)

        def is_used() -> bool:
            # A container can have exited during these calls: then the minute has just begun.
            is_active = self.power.activity(machine) != activity
            containers = self.containers.on(machine)
            is_changing = any(changes_alone(self.facts(container)) for container in containers)
            return bool(self._uses[machine]) or is_active or is_changing

        if machine in self._known:
            await self.power.suspend(machine, is_used)

    def _received(self, machine: str, event: Event) -> None:
        action = str(event.get("Action", "")).partition(":")[0]
        identifier = str((event.get("Actor") or {}).get("ID", ""))
        if event.get("Type") == "container" and self.is_elsewhere(identifier, machine):
            return
        if not self.is_hidden(event):
            self.bus.publish(event)
        for observer in self.observers:
            observer(machine, event)
        if event.get("Type") != "container":
            return
        self.power.touch(machine)
        if action in _CHANGES:
            self.snapshots.apply(event)
            self.keeper.note_change(machine, identifier)
        elif action == "destroy":
            self.containers.remove(identifier)
            self.snapshots.remove(identifier)
            self.keeper.note_change(machine)
            self._sent.append(identifier)
            self._note_sent(machine, identifier)

    def _is_taken(self, name: str, machine: str) -> bool:
        """Return whether clients mean a container in another machine by a name: programs in a
        machine can give its containers any name, such as the start of an id.
        """
        return any(
            container.name == name or container.id.startswith(name)
            for container in self.containers
            if container.machine != machine
        )

    def _note_sent(self, machine: str, container_id: str) -> None:
        self._unsent.get(machine, set()).discard(container_id)
        self.settle(machine)

    async def _refresh(self, machine: str, *, starting: bool = False) -> None:
        """Enter the containers of a machine into the index as Docker in it lists them. A machine
        that does not answer stays as it is: it can still have containers.

        :param starting: whether the endpoint starts. Its records can lack facts then.
        """
        try:
            reply = await self.lines.ask(machine, "GET", "/containers/json?all=1")
            listed = sound_entries(reply.json())
        except Refusal as refusal:
            if machine not in self._silent:
                self.progress(f"machine {machine}: {refusal}")
            self._silent.add(machine)
            return
        self._silent.discard(machine)
        if reply.status != HTTPStatus.OK:
            return
        self._drop_missing(machine, {entry["Id"] for entry in listed})
        # Later the endpoint knows the containers that it created: programs in a machine change
        # their names, volumes and networks only for Docker there.
        for entry in listed if starting else ():
            self._enter(entry, machine)
        for container in self.containers.on(machine):
            with contextlib.suppress(Refusal):
                await self.keeper.ask(machine, container.id)
        self.settle(machine)

    def _drop_missing(self, machine: str, present: set[str]) -> None:
        for container in self.containers.on(machine):
            if container.id not in present:
                self.containers.remove(container.id)
                self.snapshots.remove(container.id)

    async def _ids_in(self, machine: str) -> frozenset[str]:
        """Return the ids of all containers in a machine.

        :raises Refusal: if Docker in it does not answer.
        """
        reply = await self.lines.ask(machine, "GET", "/containers/json?all=1")
        return frozenset(entry["Id"] for entry in sound_entries(reply.json()))

    def _enter(self, entry: Entry, machine: str) -> None:
        """Enter a container into the index, with what its record lacks. An entry with the id or the
        name of a container in another machine is ignored, and so is a copy of a container that the
        image host has.
        """
        number = entry["Id"]
        if number in self._placed | self._copied or self.is_elsewhere(number, machine):
            return
        known = self.containers.with_id(number)
        name = known.name if known else ""
        if name or not self._is_taken(entry_name(entry), machine):
            name = name or entry_name(entry)
            self.containers.add(Container(number, name, machine, *_used(entry)))


def _used(facts: Facts) -> tuple[frozenset[str], frozenset[str]]:
    """Return the networks and the volumes in facts or in an entry of a list."""
    networks = (facts.get("NetworkSettings") or {}).get("Networks") or {}
    mounts = [mount for mount in facts.get("Mounts") or () if mount.get("Type") == "volume"]
    volumes = frozenset(str(mount.get("Name")) for mount in mounts)
    return frozenset(networks) - frozenset(BUILT_IN_NETWORKS), volumes
