# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spares: machines that are forked before a container needs them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from ..errors import PoolQuotaExceeded, StockyardError
from ..guest.security.reader.grammar import Refusal
from .images import ImageHost
from .machine_life import MachineLife
from .machines import Fork, Machines

# Seconds between two looks at the spares, and from the last use of a spare until another is forked:
# the start of its container is not delayed by the fork.
LOOK, CALM = 0.25, 1.0
# Seconds from a change of images until they are frozen for spares: changes often follow each other.
CHANGED = 5.0
# Seconds until a fork that failed is tried again, and between two notes that spares are needed.
RETRY, NOTE = 30.0, 300.0
# Seconds for a new spare to start its first container.
PATIENCE = 60.0
# Seconds in which a spare must answer, and the number of lines that are open to it.
PING, LINES = 3.0, 3
# A path that no image has.
NO_PROGRAM = "/stockyard/rehearsal"
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Spare:
    """A spare.

    :param generation: the number of the image generation that it was forked from.
    """

    machine: str
    generation: int


class Spares:
    """The spares of one endpoint.

    A spare becomes one when Docker in it answers, and its events are received.

    :param count: the number of spares that are kept.
    :param progress: receives a line for each failure that no client is told.
    """

    def __init__(
        self,
        machines: Machines,
        images: ImageHost,
        life: MachineLife,
        count: int,
        progress: Callable[[str], None],
    ) -> None:
        self.machines = machines
        self.images = images
        self.life = life
        self.count = count
        self.progress = progress
        self.calm, self.changed, self.patience = CALM, CHANGED, PATIENCE
        self._ready: list[_Spare] = []
        # Spares that were discarded since the pool was full.
        self._discarded: set[str] = set()
        self._closing = False
        self._work: asyncio.Task[None] | None = None
        # The fork of the next spare, and whether a container waits for it.
        self._fork: asyncio.Task[None] | None = None
        self._is_promised = False
        # The times, by the clock of the loop, before which no spare is forked and none is noted.
        self._next_fork = self._next_note = 0.0

    def start(self) -> None:
        """Fork the spares, and keep their number from now on."""
        if self.count:
            self._work = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Delete all spares. A fork that has begun is completed first."""
        self._closing = True
        if self._work:
            await self._work
        self._discard(self._ready)

    async def take(self) -> str:
        """Return a machine for a container; empty if no spare is ready. Call it when the image
        generation is current, and use the machine before anything else is awaited.
        """
        self._discard_outdated()
        if not self._ready and self._fork and not self._is_promised:
            self._is_promised = True
            await asyncio.wait([self._fork])
        while self._ready:
            spare = self._ready.pop(0)
            is_usable = False
            try:
                is_usable = self._is_current(spare) and await self._answers(spare)
            finally:
                if not is_usable:
                    self._discard([spare])
            if is_usable:
                self._delay(self.calm)
                self.life.reserved.discard(spare.machine)
                return spare.machine
        return ""

    async def with_room(self, change: Callable[[], Awaitable[_T]]) -> _T:
        """Fork or resize a machine. If the pool is full, delete the spares: a container is more
        urgent.
        """
        try:
            return await change()
        except PoolQuotaExceeded:
            if not await self._make_room():
                raise
            return await change()

    async def _make_room(self) -> bool:
        """Delete all spares. Return whether there was one."""
        self._delay(RETRY)
        if self._fork:
            await asyncio.wait([self._fork])
        self._discard(self._ready)
        discarded, self._discarded = self._discarded, set()
        for machine in discarded:
            await self.life.deleted(machine)
        return bool(discarded)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            self._discarded &= set(self.life.deleting)
            if self.images.is_stale:
                # The present spares do not have the images.
                self._discard(self._ready)
                self._next_fork = max(self._next_fork, self.images.changed_at + self.changed)
            self._discard_outdated()
            if loop.time() >= self._next_note:
                await self._note()
            if len(self._ready) < self.count and loop.time() >= self._next_fork:
                self._is_promised = False
                self._fork = loop.create_task(self._add())
                await asyncio.wait([self._fork])
                self._fork = None
                continue
            await asyncio.sleep(LOOK)

    async def _add(self) -> None:
        """Fork one spare."""
        machine = ""
        try:
            await self.images.ensure_generation()
            generation = self.images.generation
            machine = (await self.machines.fork(Fork(""))).name
            self.life.reserved.add(machine)
            # A container can wait for this spare.
            async with asyncio.timeout(self.patience):
                await self._rehearse(machine)
                await self.life.adopt(machine)
                # Handshakes would delay the container.
                await self.life.lines.open(machine, LINES)
            self._ready.append(_Spare(machine, generation))
        except Exception as error:  # noqa: BLE001  # without spares, the endpoint still serves
            self.progress(f"no spare was forked: {str(error) or repr(error)}")
            self._delay(RETRY)
            if machine:
                self._discard([_Spare(machine, 0)])

    async def _rehearse(self, machine: str) -> None:
        """Start a container without a program, which fails: afterwards the memory holds everything
        that starts containers, which an emulator must also translate.

        :raises Refusal: if Docker in the machine does not answer.
        """
        ask = self.life.lines.ask
        images = (await ask(machine, "GET", "/images/json")).json()
        if not images:
            return
        config = {"Image": images[0]["Id"], "Entrypoint": [NO_PROGRAM], "Cmd": []}
        reply = await ask(machine, "POST", "/containers/create?name=rehearsal", config)
        if reply.status == HTTPStatus.CREATED:
            container = reply.json()["Id"]
            await ask(machine, "POST", f"/containers/{container}/start")
            await ask(machine, "DELETE", f"/containers/{container}?force=1&v=1")

    async def _note(self) -> None:
        """Note that the spares are needed, so that no reaper deletes them. Discard those that ended
        by themselves.
        """
        self._next_note = asyncio.get_running_loop().time() + NOTE
        for spare in list(self._ready):
            with contextlib.suppress(StockyardError):
                if not await self.machines.keep(spare.machine) and spare in self._ready:
                    self._discard([spare])

    async def _answers(self, spare: _Spare) -> bool:
        """Return whether Docker in a spare answers."""
        if not self.life.power.is_up(spare.machine):
            return False
        with contextlib.suppress(Refusal, TimeoutError):
            async with asyncio.timeout(PING):
                reply = await self.life.lines.ask(spare.machine, "GET", "/_ping")
            return reply.status == HTTPStatus.OK
        return False

    def _is_current(self, spare: _Spare) -> bool:
        return spare.generation == self.images.generation

    def _discard_outdated(self) -> None:
        self._discard([spare for spare in self._ready if not self._is_current(spare)])

    def _discard(self, spares: list[_Spare]) -> None:
        for spare in list(spares):
            if spare in self._ready:
                self._ready.remove(spare)
            self._discarded.add(spare.machine)
            self.life.reserved.discard(spare.machine)
            self.life.delete_unadopted(spare.machine)

    def _delay(self, seconds: float) -> None:
        later = asyncio.get_running_loop().time() + seconds
        self._next_fork = max(self._next_fork, later)
