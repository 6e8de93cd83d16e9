# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Published ports of containers that join the machine of another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from ..guest.security.reader.grammar import Refusal
from .containers import Containers
from .events import Event
from .failures import explained
from .lines import Lines
from .machine_life import MachineLife
from .machines import Machines
from .named_locks import NamedLocks


class Ports:
    """The published ports of one endpoint.

    A machine is forked with the ports of its first container. The ports of later containers are
    added before these are created, and each port is published until no container has it.
    """

    def __init__(
        self, machines: Machines, lines: Lines, containers: Containers, life: MachineLife
    ) -> None:
        self.machines = machines
        self.lines = lines
        self.containers = containers
        self.life = life
        self._locks = NamedLocks()
        self._tasks: set[asyncio.Task[None]] = set()
        life.observers.append(self._observe)

    @asynccontextmanager
    async def added(self, machine: str, ports: frozenset[int]) -> AsyncIterator[None]:
        """Publish ports of a machine for a container that is created in this block.

        :raises Refusal: if a port is in use.
        """
        if ports <= self.machines.ports(machine):
            yield
            return
        async with self._locks.lock(machine):
            with explained():
                await self.machines.set_ports(machine, self.machines.ports(machine) | ports)
            try:
                yield
            finally:
                # If the creation failed, no container has the ports.
                self._start_release(machine)

    async def close(self) -> None:
        """End all tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _observe(self, machine: str, event: Event) -> None:
        if (event.get("Type"), event.get("Action")) == ("container", "destroy"):
            self._start_release(machine)

    def _start_release(self, machine: str) -> None:
        if self.machines.ports(machine):
            task = asyncio.get_running_loop().create_task(self._release(machine))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _release(self, machine: str) -> None:
        """Withdraw the ports of a machine that no container in it has."""
        async with self._locks.lock(machine):
            # A machine that is being deleted releases its ports, and none is resumed for this.
            if machine in self.life.names and self.life.power.is_up(machine):
                try:
                    await self._withdraw_unused(machine)
                except Refusal as refusal:
                    self.life.progress(f"machine {machine}: {refusal}")

    async def _withdraw_unused(self, machine: str) -> None:
        async with self.life.use(machine):
            published = self.machines.ports(machine)
            remaining_ports = published & await self._used(machine)
            if remaining_ports != published:
                with explained():
                    await self.machines.set_ports(machine, remaining_ports)

    async def _used(self, machine: str) -> frozenset[int]:
        """Return the ports of all containers of a machine."""
        ports: set[int] = set()
        for container in self.containers.on(machine):
            reply = await self.lines.ask(machine, "GET", f"/containers/{container.id}/json")
            if reply.status == HTTPStatus.OK:
                bindings = reply.json()["HostConfig"].get("PortBindings") or {}
                targets = [target for values in bindings.values() for target in values or ()]
                texts = [str(target.get("HostPort") or "") for target in targets]
                ports |= {int(text) for text in texts if text.isdigit()}
        return frozenset(ports)
