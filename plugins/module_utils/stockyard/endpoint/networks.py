# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""User-defined networks: the image host has each one, so forks have them too; the containers of a
network share one machine.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from ..guest.security.reader.grammar import Refusal
from .calls import Call, Reply, decode, json_reply, with_query
from .container_list import is_selected
from .containers import BUILT_IN_NETWORKS, Container, Containers
from .events import parse_filters
from .images import ImageHost
from .lines import SHORT, Lines
from .machine_life import MachineLife
from .machines import IMAGE_HOST
from .named_locks import NamedLocks

# The version of a build by BuildKit.
BUILDKIT = "2"
# The facts of a network from which an equal one is created in a machine that is older.
_COPIED = (
    "Name",
    "Driver",
    "IPAM",
    "Options",
    "Labels",
    "Internal",
    "EnableIPv6",
    "Attachable",
)


class Networks:
    """The user-defined networks of one endpoint."""

    def __init__(
        self, lines: Lines, containers: Containers, images: ImageHost, life: MachineLife
    ) -> None:
        self.lines = lines
        self.life = life
        self.containers = containers
        self.images = images
        self._placing = NamedLocks()

    async def names_of(self, config: dict[str, Any]) -> frozenset[str]:
        """Return the user-defined networks of a new container.

        :raises Refusal: if one does not exist.
        """
        host = config.get("HostConfig") or {}
        endpoints = (config.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
        references = {str(host.get("NetworkMode") or ""), *map(str, endpoints)}
        names = [
            (await self._inspect(reference, HTTPStatus.BAD_REQUEST))["Name"]
            for reference in references
            if reference not in BUILT_IN_NETWORKS and not reference.startswith("container:")
        ]
        return frozenset(str(name) for name in names)

    @asynccontextmanager
    async def placing(self, names: Iterable[str]) -> AsyncIterator[None]:
        """Let one container at a time be placed in each of these networks."""
        async with self._placing.all(names):
            yield

    def machines_of(self, names: Iterable[str]) -> set[str]:
        """Return the machines with containers in any of these networks."""
        network_names = frozenset(names)
        return {c.machine for c in self.containers if c.networks & network_names}

    async def machine_of_build(self, call: Call) -> tuple[str, Call]:
        """Return the machine with the containers that a build must reach, and the call for it. The
        machine is empty if the build needs no container.
        """
        mode = call.value("networkmode")
        if mode.startswith("container:"):
            return self.containers.find(mode.partition(":")[2]).machine, call
        # BuildKit knows no user-defined networks, and says so.
        if mode in BUILT_IN_NETWORKS or call.value("version") == BUILDKIT:
            return "", call
        path = f"/networks/{quote(mode, safe='')}"
        reply = await self.lines.ask(IMAGE_HOST, "GET", path)
        if reply.status != HTTPStatus.OK:
            return "", call
        name = str(reply.json()["Name"])
        machines = self.machines_of([name])
        # A network that was created in an older machine has another id there.
        return (machines.pop(), with_query(call, networkmode=name)) if machines else ("", call)

    async def ensure(self, machine: str, name: str) -> None:
        """Create a network in a machine that is older than the network."""
        path = f"/networks/{quote(name, safe='')}"
        if (await self.lines.ask(machine, "GET", path)).status == HTTPStatus.OK:
            return
        facts = await self._inspect(name, HTTPStatus.NOT_FOUND)
        body = {key: facts[key] for key in _COPIED if key in facts}
        reply = await self.lines.ask(machine, "POST", "/networks/create", body)
        if reply.status != HTTPStatus.CREATED:
            raise Refusal(str(reply.json().get("message")), reply.status)

    async def create(self, call: Call, body: bytes) -> Reply:
        """Create a network in the image host. The next container is forked with it."""
        return await self.lines.ask(IMAGE_HOST, "POST", call.prefix + call.target, body)

    async def inspect(self, call: Call, reference: str) -> Reply:
        """Return a network with the containers of all machines."""
        reply = await self.lines.ask(IMAGE_HOST, "GET", call.prefix + call.target)
        if reply.status != HTTPStatus.OK:
            return reply
        facts = reply.json()
        facts["Containers"] = await self._members(str(facts["Name"]))
        return json_reply(facts)

    async def remove(self, call: Call, reference: str) -> Reply:
        """Remove a network that no running container uses."""
        facts = await self._inspect(reference, HTTPStatus.NOT_FOUND)
        name = str(facts["Name"])
        if await self._members(name):
            raise Refusal(
                f"error while removing network: network {name} id {facts['Id']} has active "
                "endpoints",
                HTTPStatus.FORBIDDEN,
            )
        return await self.lines.ask(IMAGE_HOST, "DELETE", call.prefix + call.target)

    async def connect(self, call: Call, reference: str, body: bytes) -> Reply:
        """Connect a container to a network of its machine, or to one without containers."""
        name, container = await self._subject(reference, body)
        async with self.placing([name]):
            other_machines = self.machines_of([name]) - {container.machine}
            if other_machines and name not in BUILT_IN_NETWORKS:
                raise Refusal(
                    f"The container {container.name} and the network {name} are in different "
                    f"machines. Create the container with --network {name}.",
                    HTTPStatus.NOT_IMPLEMENTED,
                )
            async with self.life.use(container.machine):
                if name not in BUILT_IN_NETWORKS:
                    await self.ensure(container.machine, name)
                reply = await self._pass(call, container, name, "connect", body)
            if reply.status == HTTPStatus.OK and name not in BUILT_IN_NETWORKS:
                self._note(container, container.networks | {name})
        return reply

    async def disconnect(self, call: Call, reference: str, body: bytes) -> Reply:
        """Disconnect a container from a network."""
        name, container = await self._subject(reference, body)
        async with self.life.use(container.machine):
            reply = await self._pass(call, container, name, "disconnect", body)
        if reply.status == HTTPStatus.OK:
            self._note(container, container.networks - {name})
        return reply

    async def prune(self, call: Call) -> Reply:
        """Remove the networks that no container uses and that meet the filters."""
        filters, now = parse_filters(call.value("filters")), time.time()
        if unknown := set(filters) - {"label", "label!", "until"}:
            raise Refusal(f"invalid filter '{min(unknown)}'")
        reply = await self.lines.ask(IMAGE_HOST, "GET", "/networks")
        if reply.status != HTTPStatus.OK:
            return reply
        names = [
            str(network["Name"])
            for network in reply.json()
            if is_selected(network.get("Labels") or {}, network.get("Created", ""), filters, now)
        ]
        deleted = []
        for name in names:
            if name not in BUILT_IN_NETWORKS and not self.machines_of([name]):
                path = f"/networks/{quote(name, safe='')}"
                answer = await self.lines.ask(IMAGE_HOST, "DELETE", path)
                if answer.status == HTTPStatus.NO_CONTENT:
                    deleted.append(name)
        return json_reply({"NetworksDeleted": deleted or None})

    async def _inspect(self, reference: str, missing: int) -> dict[str, Any]:
        """Return the facts of a network.

        :param missing: the status of the refusal if there is none.
        """
        path = f"/networks/{quote(reference, safe='')}"
        reply = await self.lines.ask(IMAGE_HOST, "GET", path)
        if reply.status != HTTPStatus.OK:
            raise Refusal(f"network {reference} not found", missing)
        facts: dict[str, Any] = reply.json()
        return facts

    async def _members(self, name: str) -> dict[str, Any]:
        """Return the running containers of a network, as Docker in their machines lists them."""
        path = f"/networks/{quote(name, safe='')}"
        members: dict[str, Any] = {}
        machines = self.machines_of([name])
        if name in BUILT_IN_NETWORKS:
            machines = {container.machine for container in self.containers}
        for machine in sorted(machines):
            # No container runs in a machine that does not answer.
            with contextlib.suppress(Refusal):
                reply = await self.lines.ask(machine, "GET", path, patience=SHORT)
                if reply.status == HTTPStatus.OK:
                    members |= self._own_members(machine, reply.json())
        return members

    def _own_members(self, machine: str, facts: Any) -> dict[str, Any]:
        """Return the running containers that are really in a machine: programs in it can name
        others.
        """
        members = facts.get("Containers") if isinstance(facts, dict) else None
        present = {container.id for container in self.containers.on(machine)}
        return {
            str(number): member
            for number, member in (members.items() if isinstance(members, dict) else ())
            if number in present
        }

    async def _subject(self, reference: str, body: bytes) -> tuple[str, Container]:
        """Return the network and the container of a call."""
        try:
            container = str(decode(body)["Container"])
        except (KeyError, TypeError) as error:
            raise Refusal("the call names no container") from error
        facts = await self._inspect(reference, HTTPStatus.NOT_FOUND)
        return str(facts["Name"]), self.containers.find(container)

    async def _pass(
        self, call: Call, container: Container, name: str, act: str, body: bytes
    ) -> Reply:
        # A network that was created in an older machine has another id there.
        path = f"{call.prefix}/networks/{quote(name, safe='')}/{act}"
        return await self.lines.ask(container.machine, "POST", path, body)

    def _note(self, container: Container, networks: frozenset[str]) -> None:
        self.containers.add(replace(container, networks=networks))
        self.life.keeper.note_change(container.machine, container.id)
