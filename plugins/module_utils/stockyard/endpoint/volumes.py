# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes in machines: a named volume is attached while containers of one machine can use it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from ..guest.security.reader.grammar import Refusal
from .containers import Container, Containers
from .events import Event, engine_event
from .failures import explained
from .lines import Lines
from .machine_life import MachineLife
from .named_locks import NamedLocks
from .named_volumes import NamedVolume, VolumeStore

# Containers in these states use no volume until they are started again.
_ENDED = ("exited", "dead", "removing")
# Seconds after the end of a container. If the container is removed by then, its machine is deleted,
# which detaches all volumes.
RELEASE_WAIT = 1.0


class Volumes:
    """The named volumes of one endpoint.

    A volume is in one machine at a time. There it is mounted at the place where Docker keeps the
    volume of this name: so Docker fills a new volume from the image, and shows the usual paths.
    """

    def __init__(
        self, store: VolumeStore, lines: Lines, containers: Containers, life: MachineLife
    ) -> None:
        self.store = store
        self.lines = lines
        self.containers = containers
        self.life = life
        self.release_wait = RELEASE_WAIT
        # The names of all volumes: other names of Docker's are of anonymous volumes.
        self._names: set[str] = set()
        # The machines that had a volume at some time.
        self._holders: set[str] = set()
        self._locks = NamedLocks()
        # Calls that need a volume where it is.
        self._holds: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        life.observers.append(self._observe)
        life.is_hidden = self._is_hidden

    async def load(self) -> None:
        """Find the volumes of an earlier run of the endpoint. Call it after the containers are
        known.
        """
        volumes = await self.all()
        for machine in {volume.machine for volume in volumes}:
            self.settle(machine)

    async def close(self) -> None:
        """End all tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def all(self) -> list[NamedVolume]:
        """Return all volumes."""
        with explained():
            volumes = await self.store.all()
        # Another call can have created or attached a volume since then.
        self._names |= {volume.name for volume in volumes}
        self._holders |= {volume.machine for volume in volumes}
        self._holders &= set(self.life.names)
        return volumes

    async def find(self, name: str) -> NamedVolume | None:
        """Return one volume, if it exists."""
        return next((volume for volume in await self.all() if volume.name == name), None)

    def used_by(self, container: Container) -> frozenset[str]:
        """Return the named volumes of a container."""
        return container.volumes & self._names

    def users(self, name: str) -> list[Container]:
        """Return the containers with a volume."""
        return [container for container in self.containers if name in container.volumes]

    @asynccontextmanager
    async def locked(self, names: Iterable[str]) -> AsyncIterator[None]:
        """Let one call at a time place each of these volumes."""
        async with self._locks.all(names):
            yield

    async def create(self, name: str, labels: Mapping[str, str]) -> None:
        """Create a volume. Call it under the lock of the volume."""
        with explained():
            await self.store.create(name, labels)
        self._names.add(name)
        self.life.bus.publish(engine_event("volume", "create", name, {"driver": "local"}))

    async def delete(self, name: str) -> None:
        """Delete a volume that no container has. Call it under the lock of the volume."""
        volume = await self.find(name)
        if volume:
            await self._release(volume)
            with explained():
                await self.store.delete(name)
            self._names.discard(name)
            self.life.bus.publish(engine_event("volume", "destroy", name, {"driver": "local"}))

    async def allocated(self, name: str) -> int:
        """Return the storage that a volume uses, in bytes."""
        with explained():
            return await self.store.allocated(name)

    async def machines_of(self, names: Collection[str]) -> set[str]:
        """Return the machines that these volumes must stay in, because containers there use them,
        or will when they are started.
        """
        if not names:
            return set()
        volumes = [volume for volume in await self.all() if volume.name in names and volume.machine]
        return {volume.machine for volume in volumes if await self._is_needed(volume)}

    async def place(self, machine: str, volumes: Mapping[str, Mapping[str, str]]) -> None:
        """Attach volumes to a machine, and create those that are missing. Call it under the locks
        of the volumes.

        :param volumes: the labels for the creation of each one.
        :raises Refusal: if a volume is needed in another machine.
        """
        if not volumes:
            return
        existing = {volume.name: volume for volume in await self.all()}
        root = ""
        for name, labels in volumes.items():
            if name not in existing:
                await self.create(name, labels)
            volume = existing.get(name) or NamedVolume(name)
            if volume.machine == machine and volume.mounted:
                continue
            if volume.machine not in ("", machine):
                if await self._is_needed(volume):
                    raise Refusal(
                        f"The volume {name} is used by a container in another machine. Stop that "
                        "container, or create the containers in one common network.",
                        HTTPStatus.CONFLICT,
                    )
                await self._release(volume)
            root = root or await self._docker_root(machine)
            await self._attach(volume, machine, f"{root}/volumes/{name}")

    @asynccontextmanager
    async def in_machine(self, container: Container) -> AsyncIterator[None]:
        """Keep the volumes of a container in its machine during a call, such as its start."""
        names = self.used_by(container)
        if not names:
            yield
            return
        async with self.locked(names):
            await self.place(container.machine, {name: {} for name in names})
            self._holds.update(names)
        try:
            yield
        finally:
            self._holds -= Counter(names)
            self.settle(container.machine)

    def settle(self, machine: str) -> None:
        """Detach the volumes that no container in a machine uses any more, after a moment."""
        if machine in self._holders:
            task = asyncio.get_running_loop().create_task(self._release_unused(machine))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _is_needed(self, volume: NamedVolume) -> bool:
        """Return whether a container in the machine of a volume uses it, or was not started yet."""
        if self._holds[volume.name] > 0:
            return True
        present = [c for c in self.users(volume.name) if c.machine == volume.machine]
        if not present:
            return False
        if not self.life.power.is_up(volume.machine):
            states = [self.life.facts(container).get("State") or {} for container in present]
            return any(state.get("Status") not in _ENDED for state in states)
        for container in present:
            try:
                # Docker updates its list a moment after a call that stops the container.
                path = f"/containers/{container.id}/json"
                reply = await self.lines.ask(volume.machine, "GET", path)
            except Refusal:
                # A machine that does not answer can still write to the volume.
                return True
            if reply.status == HTTPStatus.OK and reply.json()["State"]["Status"] not in _ENDED:
                return True
        return False

    async def _release(self, volume: NamedVolume) -> None:
        """Detach a volume from its machine.

        :raises Refusal: if the machine is none of this endpoint, or fails.
        """
        machine = volume.machine
        if machine in self.life.names:
            async with self.life.use(machine):
                with explained():
                    await self.store.detach(volume.name)
        elif machine:
            # A machine that is being deleted releases its volumes.
            await self.life.deleted(machine)
            now = await self.find(volume.name)
            if now and now.machine:
                raise Refusal(
                    f"The volume {volume.name} is attached to the host {now.machine}, which is no "
                    "machine of this endpoint. Detach the volume there.",
                    HTTPStatus.CONFLICT,
                )

    async def _docker_root(self, machine: str) -> str:
        facts = (await self.lines.ask(machine, "GET", "/info")).json()
        return str(facts.get("DockerRootDir") or "/var/lib/docker")

    async def _attach(self, volume: NamedVolume, machine: str, path: str) -> None:
        """Attach a volume to a machine, and let Docker there use it."""
        if volume.blank:
            # Docker can know an earlier volume of this name, and creates no directory for it then.
            await self.lines.ask(machine, "DELETE", f"/volumes/{volume.name}?force=1")
        with explained():
            await self.store.attach(volume.name, machine, path)
        self._holders.add(machine)
        reply = await self.lines.ask(machine, "POST", "/volumes/create", {"Name": volume.name})
        if reply.status != HTTPStatus.CREATED:
            raise Refusal(str(reply.json().get("message")), reply.status)

    def _observe(self, machine: str, event: Event) -> None:
        """Release the volumes of a container that ended."""
        if event.get("Type") == "container" and event.get("Action") in ("die", "destroy"):
            self.settle(machine)

    def _is_hidden(self, event: Event) -> bool:
        """Return whether an event is about the volume of the endpoint in one machine."""
        name = (event.get("Actor") or {}).get("ID")
        is_change = event.get("Action") in ("create", "destroy")
        return event.get("Type") == "volume" and is_change and name in self._names

    async def _release_unused(self, machine: str) -> None:
        await asyncio.sleep(self.release_wait)
        # A machine that is being deleted detaches its volumes, and none is resumed for this.
        if machine not in self.life.names or not self.life.power.is_up(machine):
            return
        try:
            names = [volume.name for volume in await self.all() if volume.machine == machine]
            for name in names:
                async with self.locked([name]):
                    await self._release_if_unused(machine, name)
        except Refusal as refusal:
            self.life.progress(f"machine {machine}: {refusal}")

    async def _release_if_unused(self, machine: str, name: str) -> None:
        volume = await self.find(name)
        is_here = volume and volume.machine == machine and machine in self.life.names
        if volume and is_here and not await self._is_needed(volume):
            await self._release(volume)


def shared_sources(containers: Containers, config: dict[str, Any]) -> frozenset[str]:
    """Return the volumes of the containers whose volumes a new one uses too."""
    sources = (config.get("HostConfig") or {}).get("VolumesFrom") or ()
    references = [str(source).partition(":")[0] for source in sources]
    return frozenset().union(*(containers.find(ref).volumes for ref in references))
