# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of containers are kept: Docker is asked after each change, and the answer is written
into the record of the machine, so that a machine that does not run need not be asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from ..errors import StockyardError
from ..guest.security.reader.grammar import Refusal
from ..model.container_machine import CONTAINER_ID, CONTAINER_NAME
from .containers import Containers
from .lines import Lines
from .machines import Machines
from .snapshots import Snapshots

# Seconds from a change until Docker is asked, and from then until the record is written: changes
# often follow each other.
ASK_AFTER, SAVE_AFTER = 0.2, 2.0


class FactsKeeper:
    """Keeps the facts of the containers of one endpoint.

    :param progress: receives a line for each failure that no client is told.
    """

    def __init__(
        self,
        machines: Machines,
        lines: Lines,
        containers: Containers,
        snapshots: Snapshots,
        progress: Callable[[str], None],
    ) -> None:
        self.machines = machines
        self.lines = lines
        self.containers = containers
        self.snapshots = snapshots
        self.progress = progress
        # The changed containers of each machine, and the task that asks and writes.
        self._changed: dict[str, set[str]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # The facts in each record.
        self._saved: dict[str, tuple[dict[str, str], str]] = {}

    def note_change(self, machine: str, container_id: str = "") -> None:
        """Ask Docker for the facts of a container soon, and write all facts of its machine."""
        self._changed.setdefault(machine, set()).update({container_id} - {""})
        if machine not in self._tasks:
            task = asyncio.get_running_loop().create_task(self._work(machine))
            self._tasks[machine] = task

    async def ask(self, machine: str, container_id: str) -> None:
        """Ask Docker in a machine for the facts of a container.

        :raises Refusal: if it does not answer.
        """
        reply = await self.lines.ask(machine, "GET", f"/containers/{container_id}/json")
        facts = reply.json() if reply.status == HTTPStatus.OK else None
        # A program in the machine cannot speak for containers in other machines, and changes no
        # names.
        if isinstance(facts, dict) and facts.get("Id") == container_id:
            container = self.containers.with_id(container_id)
            self.snapshots.put(facts | ({"Name": f"/{container.name}"} if container else {}))

    async def save(self, machine: str) -> None:
        """Write the facts of all containers of a machine into its record, if they changed."""
        present = self.containers.on(machine)
        if not present:
            return
        facts = {CONTAINER_NAME: present[0].name, CONTAINER_ID: present[0].id}
        saved = (facts, self.snapshots.pack(present))
        if self._saved.get(machine) == saved:
            return
        try:
            await self.machines.note(machine, *saved)
        except StockyardError as error:
            self.progress(f"machine {machine}: {error}")
        else:
            self._saved[machine] = saved

    def forget(self, machine: str) -> None:
        """End the work on a machine that is deleted."""
        self._changed.pop(machine, None)
        self._saved.pop(machine, None)
        if task := self._tasks.pop(machine, None):
            task.cancel()

    async def close(self) -> None:
        """Write what was not written yet."""
        unsaved = list(self._tasks)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(self.save(machine) for machine in unsaved))

    async def _work(self, machine: str) -> None:
        try:
            while machine in self._changed:
                await asyncio.sleep(ASK_AFTER)
                for number in self._changed.pop(machine, ()):
                    try:
                        await self.ask(machine, number)
                    except Refusal:
                        break  # the last facts remain
                await asyncio.sleep(SAVE_AFTER)
                await self.save(machine)
        finally:
            if self._tasks.get(machine) is asyncio.current_task():
                del self._tasks[machine]
