# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls whose answer is merged from all machines."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from ..guest.security.reader.grammar import Refusal
from .calls import Call, Reply, json_reply
from .events import Event, EventBus, matches, moment, parse_filters
from .lines import Lines
from .machine_life import MachineLife
from .machines import IMAGE_HOST, Machines
from .volume_calls import VolumeCalls

_STATES = {"running": "ContainersRunning", "paused": "ContainersPaused"}


class MergedCalls:
    """The calls of one endpoint about everything that it has."""

    def __init__(
        self,
        machines: Machines,
        lines: Lines,
        life: MachineLife,
        bus: EventBus,
        volumes: VolumeCalls,
    ) -> None:
        self.machines = machines
        self.lines = lines
        self.life = life
        self.bus = bus
        self.volumes = volumes

    async def list_containers(self, call: Call) -> Reply:
        """Return the containers of all machines, the newest first."""
        limit = _number(call.value("limit"))
        names = self.life.names
        filters = parse_filters(call.value("filters"))
        before = [await self._created(reference) for reference in filters.pop("before", [])]
        since = [await self._created(reference) for reference in filters.pop("since", [])]
        # The other containers of these filters can be in any machine.
        query = {key: values[0] for key, values in call.query.items() if key != "filters"}
        query |= {"filters": json.dumps(filters)} if filters else {}
        if (before or since) and limit > 0:
            # The limit counts after the filters. With a limit Docker lists all containers.
            query |= {"limit": "0", "all": "1"}
        path = f"{call.prefix}/containers/json?{urlencode(query)}"
        replies = await asyncio.gather(*(self._ask(name, "GET", path) for name in names))
        entries: list[dict[str, Any]] = []
        for name, reply in zip(names, replies, strict=True):
            if reply is None:
                entries += self._ended(name) if call.flag("all") else []
            elif reply.status != HTTPStatus.OK:
                return reply
            else:
                entries += reply.json()
        entries = [
            entry
            for entry in entries
            if all(entry["Created"] < moment for moment in before)
            and all(entry["Created"] > moment for moment in since)
        ]
        entries.sort(key=lambda entry: entry.get("Created", 0), reverse=True)
        return json_reply(entries[:limit] if limit > 0 else entries)

    async def _created(self, reference: str) -> int:
        """Return the time at which a container was created, in seconds since the epoch."""
        container = self.life.containers.find(reference)
        path = f"/containers/json?all=1&filters={quote(json.dumps({'id': [container.id]}))}"
        entries = (await self.lines.ask(container.machine, "GET", path)).json()
        return next((entry["Created"] for entry in entries if entry["Id"] == container.id), 0)

    def _ended(self, machine: str) -> list[dict[str, Any]]:
        """Return the entries of containers whose machine does not answer."""
        return [
            {
                "Id": container.id,
                "Names": [f"/{container.name}"],
                "Image": "",
                "ImageID": "",
                "Command": "",
                "Created": 0,
                "Ports": [],
                "Labels": {},
                "State": "dead",
                "Status": "Dead",
                "HostConfig": {},
                "NetworkSettings": {"Networks": {}},
                "Mounts": [],
            }
            for container in self.life.containers.on(machine)
        ]

    async def prune_containers(self, call: Call) -> Reply:
        """Remove the stopped containers of all machines."""
        replies = await self._ask_all("POST", call.prefix + call.target)
        deleted: list[str] = []
        reclaimed = 0
        for reply in replies:
            if reply.status != HTTPStatus.OK:
                return reply
            pruned = reply.json()
            deleted += pruned.get("ContainersDeleted") or []
            reclaimed += pruned.get("SpaceReclaimed") or 0
        for container in self.life.containers:
            if container.id in deleted:
                self.life.removed(container)
        return json_reply({"ContainersDeleted": deleted or None, "SpaceReclaimed": reclaimed})

    async def info(self, call: Call) -> Reply:
        """Return the facts of the endpoint: those of the image host, with all containers."""
        host, *listings = await asyncio.gather(
            self.lines.ask(IMAGE_HOST, "GET", call.prefix + call.target),
            *(self._ask(name, "GET", "/containers/json?all=1") for name in self.life.names),
        )
        if host is None or host.status != HTTPStatus.OK:
            raise Refusal("The image host does not answer.", HTTPStatus.SERVICE_UNAVAILABLE)
        facts = host.json()
        entries = [entry for reply in listings if reply for entry in reply.json()]
        counts = dict.fromkeys(("ContainersRunning", "ContainersPaused", "ContainersStopped"), 0)
        for entry in entries:
            counts[_STATES.get(entry.get("State"), "ContainersStopped")] += 1
        facts |= counts | {
            "Containers": len(entries),
            "ID": self.machines.id,
            "Name": self.machines.title,
        }
        return json_reply(facts)

    async def disk_usage(self, call: Call) -> Reply:
        """Return the disk usage of images and volumes, and of the containers of all machines."""
        target = call.prefix + call.target
        host = (await self.lines.ask(IMAGE_HOST, "GET", target)).json()
        usage = [reply.json() for reply in await self._ask_all("GET", target)]
        for part in ("Containers", "Volumes"):
            host[part] = [entry for facts in usage for entry in facts.get(part) or ()]
        named_volumes = await self.volumes.usage()
        names = {entry["Name"] for entry in named_volumes}
        anonymous_volumes = [entry for entry in host["Volumes"] if entry["Name"] not in names]
        host["Volumes"] = named_volumes + anonymous_volumes
        return json_reply(host)

    async def events(self, call: Call) -> AsyncIterator[bytes]:
        """Return the events of all machines and of the image host, each as a line of JSON."""
        filters = parse_filters(call.value("filters"))
        since, until = _time(call.value("since")), _time(call.value("until"))
        with self.bus.reading() as reader:
            if since is not None:
                for event in list(self.bus.recent):
                    if since <= moment(event) <= (until or math.inf) and matches(event, filters):
                        yield _line(event)
            async for event in _until(reader, until):
                if matches(event, filters):
                    yield _line(event)

    async def _ask_all(self, method: str, path: str) -> Sequence[Reply]:
        """Return the answers of all machines that answer."""
        replies = await asyncio.gather(*(self._ask(name, method, path) for name in self.life.names))
        return [reply for reply in replies if reply]

    async def _ask(self, machine: str, method: str, path: str) -> Reply | None:
        try:
            return await self.lines.ask(machine, method, path)
        except Refusal:
            return None


async def _until(reader: asyncio.Queue[Event | None], until: float | None) -> AsyncIterator[Event]:
    """Return the events of a queue, up to a time by the clock of the endpoint."""
    end = None if until is None else asyncio.get_running_loop().time() + until - time.time()
    while True:
        try:
            async with asyncio.timeout_at(end):
                event = await reader.get()
        except TimeoutError:
            return
        if event is None:
            return
        yield event


def _line(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def _number(text: str) -> int:
    try:
        return int(text or 0)
    except ValueError as error:
        raise Refusal(f'strconv.Atoi: parsing "{text}": invalid syntax') from error


def _time(text: str) -> float | None:
    """Return a time in seconds since the epoch, as Docker's clients send it."""
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise Refusal(f"the time {text} is not a number of seconds") from error
