# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that create, rename and remove containers, and those that start programs in them."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from ..errors import PoolQuotaExceeded, StockyardError
from ..guest.security.reader.grammar import Refusal
from .calls import Call, Reply
from .containers import Container, Containers, check_name
from .images import ImageHost
from .lines import Lines
from .machine_life import MachineLife
from .machines import Fork, Machines
from .networks import Networks
from .placement import check_config, publish, shared_machine


class ContainerCalls:
    """The calls of one endpoint about single containers."""

    def __init__(
        self,
        machines: Machines,
        lines: Lines,
        containers: Containers,
        images: ImageHost,
        life: MachineLife,
        networks: Networks,
    ) -> None:
        self.machines = machines
        self.lines = lines
        self.containers = containers
        self.images = images
        self.life = life
        self.networks = networks
        # The machine of each exec instance.
        self._instances: dict[str, str] = {}

    async def create(self, call: Call, body: bytes) -> Reply:
        """Create a container in a machine of its own, or in that of its partners."""
        config = _parse(body)
        requested_name = call.value("name")
        name = check_name(requested_name) if requested_name else self.containers.propose_name()
        check_config(config)
        await self._forget_if_gone(name)
        networks = await self.networks.names_of(config)
        with self.containers.reserved(name):
            async with self.networks.placing(networks):
                return await self._place(call, config, name, networks)

    async def change_name(self, call: Call, reference: str) -> Reply:
        """Rename a container."""
        container, name = self.containers.find(reference), check_name(call.value("name"))
        if name != container.name:
            await self._forget_if_gone(name)
            with self.containers.reserved(name):
                return await self._change_name(call, container, name)
        return await self._change_name(call, container, name)

    async def remove(self, call: Call, reference: str) -> Reply:
        """Remove a container; its machine is deleted afterwards."""
        container = self.containers.find(reference)
        with self.life.use(container.machine):
            try:
                reply = await self.lines.ask(container.machine, "DELETE", call.prefix + call.target)
            except Refusal:
                # Nothing in a machine that ended can be saved by an error.
                if await self.machines.is_running(container.machine):
                    raise
                self.life.abandon(container.machine)
                return Reply(HTTPStatus.NO_CONTENT)
            if reply.status == HTTPStatus.NO_CONTENT:
                self.life.removed(container)
        return reply

    async def create_exec(self, call: Call, reference: str, body: bytes) -> Reply:
        """Create an exec instance, and note its machine."""
        container = self.containers.find(reference)
        with self.life.use(container.machine):
            reply = await self.lines.ask(container.machine, "POST", call.prefix + call.target, body)
            if reply.status == HTTPStatus.CREATED:
                self._instances[str(reply.json()["Id"])] = container.machine
        return reply

    async def machine_of_exec(self, identifier: str) -> str:
        """Return the machine of an exec instance. After a restart of the endpoint, Docker in each
        machine is asked.

        :raises Refusal: if there is no such instance, in Docker's words.
        """
        machine = self._instances.get(identifier)
        if machine in self.life.names:
            return str(machine)
        for name in self.life.names:
            reply = await self.lines.ask(name, "GET", f"/exec/{quote(identifier, safe='')}/json")
            if reply.status == HTTPStatus.OK:
                self._instances[identifier] = name
                return name
        raise Refusal(f"No such exec instance: {identifier}", HTTPStatus.NOT_FOUND)

    async def _place(
        self,
        call: Call,
        config: dict[str, Any],
        name: str,
        networks: frozenset[str],
    ) -> Reply:
        """Create a container in the machine that it shares, or in a new one."""
        ports = publish(config, self.machines.free_port)
        machine = shared_machine(self.containers, config, self.networks.machines_of(networks))
        if machine and ports:
            raise Refusal(
                "The ports of a container that joins the machine of another one cannot be "
                "published. Publish them for the first container.",
                HTTPStatus.NOT_IMPLEMENTED,
            )
        if machine:
            for network in networks:
                await self.networks.ensure(machine, network)
        else:
            await self.images.check_exists(str(config.get("Image") or ""))
            machine = await self._fork(Fork(name, ports))
        return await self._create_in(machine, call, name, json.dumps(config).encode(), networks)

    async def _change_name(self, call: Call, container: Container, name: str) -> Reply:
        reply = await self.lines.ask(container.machine, "POST", call.prefix + call.target)
        if reply.status == HTTPStatus.NO_CONTENT:
            self.containers.change_name(container.id, name)
            self.life.record(self.containers.find(container.id))
        return reply

    async def _forget_if_gone(self, name: str) -> None:
        """Free a name whose container was removed by itself a moment ago."""
        holder = self.containers.named(name)
        if holder:
            path = f"/containers/{holder.id}/json"
            if (await self.lines.ask(holder.machine, "GET", path)).status == HTTPStatus.NOT_FOUND:
                self.life.removed(holder)

    async def _fork(self, request: Fork) -> str:
        try:
            await self.images.ensure_generation()
            machine = (await self.machines.fork(request)).name
        except PoolQuotaExceeded as error:
            raise Refusal(str(error), HTTPStatus.CONFLICT) from error
        except StockyardError as error:
            raise Refusal(str(error), HTTPStatus.INTERNAL_SERVER_ERROR) from error
        return machine

    async def _create_in(
        self, machine: str, call: Call, name: str, body: bytes, networks: frozenset[str]
    ) -> Reply:
        query = {key: value[0] for key, value in call.query.items()} | {"name": name}
        path = f"{call.prefix}/containers/create?{urlencode(query)}"
        # A machine without a container is deleted at the end of the block.
        with self.life.use(machine):
            if machine not in self.life.names:
                await self.life.adopt(machine)
            reply = await self.lines.ask(machine, "POST", path, body)
            if reply.status == HTTPStatus.CREATED:
                container = Container(str(reply.json()["Id"]), name, machine, networks)
                self.containers.add(container)
                self.life.record(container)
        return reply


def _parse(body: bytes) -> dict[str, Any]:
    try:
        config = json.loads(body)
    except ValueError as error:
        raise Refusal(f"invalid JSON: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("HostConfig") or {}, dict):
        raise Refusal("Config cannot be empty in order to create a container")
    return config
