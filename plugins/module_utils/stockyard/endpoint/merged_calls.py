# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls whose answer is merged from all machines."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from ..guest.security.reader.grammar import Refusal
from .calls import Call, Reply, json_reply
from .container_list import is_listed, is_pruned, list_entry, seconds, sound_entries
from .events import Event, EventBus, matches, moment, parse_filters
from .lines import LONG, PATIENCE, SHORT, Lines
from .machine_life import MachineLife
from .machines import IMAGE_HOST, Machines
from .snapshots import NEVER
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
        stopped_too = call.flag("all") or limit > 0
        entries: list[dict[str, Any]] = []
        if refusal := _common_refusal(replies):
            return refusal
        for name, reply in zip(names, replies, strict=True):
            if reply is None or reply.status != HTTPStatus.OK:
                entries += self._entries(name, filters, stopped_too=stopped_too)
            else:
                entries += self._own_entries(name, reply)
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
        if not self.life.power.is_up(container.machine):
            return int(seconds(str(self.life.facts(container).get("Created") or NEVER)))
        path = f"/containers/json?all=1&filters={quote(json.dumps({'id': [container.id]}))}"
        reply = await self.lines.ask(container.machine, "GET", path, patience=SHORT)
        entries = self._own_entries(container.machine, reply)
        return next((entry["Created"] for entry in entries if entry["Id"] == container.id), 0)

    def _own_entries(self, machine: str, reply: Reply) -> list[dict[str, Any]]:
        """Return the entries of a machine about its containers. It has others if the image host
        had them when the machine was forked, and programs in it can write any.
        """
        try:
            return self._known(machine, sound_entries(reply.json()))
        except Refusal:
            return []

    def _known(self, machine: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the entries about containers that clients created in a machine."""
        known_ids = {container.id for container in self.life.containers.on(machine)}
        return [entry for entry in entries if entry["Id"] in known_ids]

    def _entries(
        self, machine: str, filters: dict[str, list[str]], *, stopped_too: bool
    ) -> list[dict[str, Any]]:
        """Return the entries of a machine that does not answer, from the facts that are known."""
        facts = [self.life.facts(container) for container in self.life.containers.on(machine)]
        now = time.time()
        return [
            list_entry(known, now)
            for known in facts
            if is_listed(known, filters, stopped_too=stopped_too)
        ]

    async def prune_containers(self, call: Call) -> Reply:
        """Remove the stopped containers of all machines."""
        filters = parse_filters(call.value("filters"))
        deleted, waking = self._discard_stopped(filters)
        target = call.prefix + call.target
        running = [name for name in self.life.names if self.life.power.is_up(name)]
        reclaimed = 0

        async def prune(name: str) -> Reply | None:
            try:
                async with self.life.use(name):
                    return await self._ask(name, "POST", target, LONG)
            except Refusal:
                return None  # the machine cannot be started

        # Programs in a machine can name containers of others.
        present = {name: self.life.containers.on(name) for name in (*running, *waking)}
        replies = await asyncio.gather(*map(prune, present))
        if not deleted and (refusal := _common_refusal(replies)):
            return refusal
        for containers, reply in zip(present.values(), replies, strict=True):
            if reply is None or reply.status != HTTPStatus.OK:
                continue
            pruned = _object(reply)
            numbers = pruned.get("ContainersDeleted")
            for container in containers:
                if isinstance(numbers, list) and container.id in numbers:
                    deleted.append(container.id)
                    self.life.removed(container)
            space = pruned.get("SpaceReclaimed")
            reclaimed += space if isinstance(space, int) else 0
        return json_reply({"ContainersDeleted": deleted or None, "SpaceReclaimed": reclaimed})

    def _discard_stopped(self, filters: dict[str, list[str]]) -> tuple[list[str], list[str]]:
        """Remove the stopped containers of machines that do not run, if that removes the machine.
        Return their ids, and the machines that must run for it.
        """
        deleted: list[str] = []
        waking: list[str] = []
        now = time.time()
        for name in self.life.names:
            if self.life.power.is_up(name):
                continue
            present = self.life.containers.on(name)
            pruned = [c for c in present if is_pruned(self.life.facts(c), filters, now)]
            if pruned and len(pruned) < len(present):
                waking.append(name)
            elif pruned:
                deleted += [container.id for container in pruned]
                for container in pruned:
                    self.life.discard(container)
        return deleted, waking

    async def info(self, call: Call) -> Reply:
        """Return the facts of the endpoint: those of the image host, with all containers."""
        names = self.life.names
        host, *listings = await asyncio.gather(
            self.lines.ask(IMAGE_HOST, "GET", call.prefix + call.target),
            *(self._ask(name, "GET", "/containers/json?all=1") for name in names),
        )
        if host is None or host.status != HTTPStatus.OK:
            raise Refusal("The image host does not answer.", HTTPStatus.SERVICE_UNAVAILABLE)
        facts = host.json()
        entries = [
            entry
            for name, reply in zip(names, listings, strict=True)
            for entry in (
                self._own_entries(name, reply)
                if reply and reply.status == HTTPStatus.OK
                else self._entries(name, {}, stopped_too=True)
            )
        ]
        counts = dict.fromkeys(("ContainersRunning", "ContainersPaused", "ContainersStopped"), 0)
        for entry in entries:
            counts[_STATES.get(str(entry.get("State")), "ContainersStopped")] += 1
        facts |= counts | {
            "Containers": len(entries),
            "ID": self.machines.id,
            "Name": self.machines.title,
        }
        # The pool is the host. Without numbers, those of the image host remain.
        capacity = await self.machines.capacity()
        facts |= {"NCPU": capacity.vcpus} if capacity.vcpus else {}
        facts |= {"MemTotal": capacity.memory_mib << 20} if capacity.memory_mib else {}
        return json_reply(facts)

    async def disk_usage(self, call: Call) -> Reply:
        """Return the disk usage of images and volumes, and of the containers of all machines."""
        target = call.prefix + call.target
        answer, *usages = await asyncio.gather(
            self.lines.ask(IMAGE_HOST, "GET", target, patience=LONG),
            *(self._usage(name, target) for name in self.life.names),
        )
        named_volumes = await self.volumes.usage()
        names = {entry["Name"] for entry in named_volumes}
        containers = [entry for usage in usages for entry in usage["Containers"]]
        anonymous_volumes = [
            volume
            for usage in usages
            for volume in usage["Volumes"]
            if volume.get("Name") not in names
        ]
        volumes = named_volumes + anonymous_volumes
        return json_reply(answer.json() | {"Containers": containers, "Volumes": volumes})

    async def _usage(self, machine: str, target: str) -> dict[str, list[dict[str, Any]]]:
        """Return the containers and the volumes of a machine, with their disk usage."""
        reply = await self._ask(machine, "GET", target, PATIENCE)
        if reply is None:
            return {"Containers": self._entries(machine, {}, stopped_too=True), "Volumes": []}
        usage = _object(reply)
        volumes = usage.get("Volumes")
        listed = volumes if isinstance(volumes, list) else []
        return {
            "Containers": self._known(machine, sound_entries(usage.get("Containers"))),
            "Volumes": [volume for volume in listed if isinstance(volume, dict)],
        }

    def events(self, call: Call) -> AsyncIterator[bytes]:
        """Return the events of all machines and of the image host, each as a line of JSON.

        :raises Refusal: if the filters or the times are invalid.
        """
        filters = parse_filters(call.value("filters"))
        return self._events(filters, _time(call.value("since")), _time(call.value("until")))

    async def _events(
        self, filters: dict[str, list[str]], since: float | None, until: float | None
    ) -> AsyncIterator[bytes]:
        with self.bus.reading() as reader:
            if since is not None:
                for event in list(self.bus.recent):
                    if since <= moment(event) <= (until or math.inf) and matches(event, filters):
                        yield _line(event)
            async for event in _until(reader, until):
                if matches(event, filters):
                    yield _line(event)

    async def _ask(
        self, machine: str, method: str, path: str, patience: float = 0.0
    ) -> Reply | None:
        """Return the answer of a machine; ``None`` if it does not run or does not answer.

        :param patience: seconds for the answer; a few if 0.
        """
        if not self.life.power.is_up(machine):
            return None
        try:
            return await self.lines.ask(machine, method, path, patience=patience or SHORT)
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


def _common_refusal(replies: Iterable[Reply | None]) -> Reply | None:
    """Return the refusal of a call that no machine accepted; ``None`` if one did, or if none
    answered.
    """
    answers = [reply for reply in replies if reply]
    refusals = [reply for reply in answers if reply.status != HTTPStatus.OK]
    return refusals[0] if refusals and len(refusals) == len(answers) else None


def _object(reply: Reply) -> dict[str, Any]:
    """Return the object in a reply of a machine; an empty one if there is none."""
    try:
        value = reply.json()
    except Refusal:
        return {}
    return value if isinstance(value, dict) else {}


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
