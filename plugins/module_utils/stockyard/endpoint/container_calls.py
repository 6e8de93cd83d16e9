# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that create, rename and remove containers, and those that start programs in them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import OrderedDict
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from ..errors import InvalidInput, PoolQuotaExceeded, StockyardError, Unsupported
from ..guest.security.reader.grammar import Refusal
from .answers import answer
from .calls import Call, Reply
from .container_config import parse_config
from .containers import Container, Containers, check_name, is_id
from .docker_socket import DockerSocket
from .images import ImageHost
from .lines import LONG, SHORT, Lines
from .machine_life import MachineLife
from .machines import Fork
from .named_volumes import named_volumes
from .networks import Networks
from .placement import check_config, publish, shared_machine
from .ports import Ports
from .sizes import Demand, changed_limits, demand_of, larger, total
from .snapshots import is_running
from .spares import Spares
from .volumes import Volumes, shared_sources

# For exec instances beyond this number, Docker in each machine is asked.
NOTED_EXECS = 4096


class ContainerCalls:
    """The calls of one endpoint about single containers."""

    def __init__(
        self,
        lines: Lines,
        containers: Containers,
        images: ImageHost,
        life: MachineLife,
        networks: Networks,
        volumes: Volumes,
        ports: Ports,
        spares: Spares,
    ) -> None:
        self.machines = life.machines
        self.lines = lines
        self.containers = containers
        self.images = images
        self.life = life
        self.networks = networks
        self.volumes = volumes
        self.ports = ports
        self.spares = spares
        self.socket = DockerSocket(life)
        # The machine of the newest exec instances.
        self._instances: OrderedDict[str, str] = OrderedDict()

    async def create(self, call: Call, body: bytes) -> Reply:
        """Create a container in a machine of its own, or in that of its partners."""
        config = parse_config(body)
        requested_name = call.value("name")
        name = check_name(requested_name) if requested_name else self.containers.propose_name()
        if "@" in (image := str(config.get("Image") or "")):
            config["Image"] = await self.images.stored_name(image)
        self.socket.redirect(config)
        socket = self.machines.socket
        check_config(config, socket.path if socket else "")
        volumes = named_volumes(config)
        await self._forget_if_gone(name)
        networks = await self.networks.names_of(config)
        for shared_volume in shared_sources(self.containers, config):
            if await self.volumes.find(shared_volume):
                volumes.setdefault(shared_volume, {})
        with self.containers.reserved(name):
            async with self.networks.placing(networks), self.volumes.locked(volumes):
                return await self._place(call, config, name, networks, volumes)

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
        if self._is_discardable(container):
            self.life.discard(container)
            return Reply(HTTPStatus.NO_CONTENT)
        async with self.life.use(container.machine):
            try:
                reply = await self.lines.ask(
                    container.machine, "DELETE", call.prefix + call.target, patience=LONG
                )
            except Refusal:
                if not (
                    await self.life.is_lost(container.machine) and self._is_discardable(container)
                ):
                    raise
                self.life.discard(container)
                return Reply(HTTPStatus.NO_CONTENT)
            if reply.status == HTTPStatus.NO_CONTENT:
                self.life.removed(container)
        return reply

    async def update(self, call: Call, reference: str, body: bytes) -> Reply:
        """Change the limits of a container. Its machine grows before, or shrinks afterwards."""
        container = self.containers.find(reference)
        machine, limits = container.machine, changed_limits(body)
        async with self.life.use(machine):
            before = self._demands(machine)
            host = self.life.facts(container).get("HostConfig") or {}
            after = before | {container.id: demand_of({**host, **limits})}
            if limits:
                await self._resize(machine, larger(total(before.values()), total(after.values())))
            reply = await self.lines.ask(machine, "POST", call.prefix + call.target, body)
            if limits:
                await self._fit(container)
        return reply

    async def _fit(self, container: Container) -> None:
        """Resize the machine of a container to its present limits, if it can be."""
        machine = container.machine
        try:
            await self.life.keeper.ask(machine, container.id)
            await self.machines.resize(machine, total(self._demands(machine).values()))
        except (Refusal, StockyardError) as error:
            self.life.progress(f"machine {machine} is not resized: {error}")

    async def create_exec(self, call: Call, reference: str, body: bytes) -> Reply:
        """Create an exec instance, and note its machine."""
        container = self.containers.find(reference)
        if not self.life.power.is_up(container.machine):
            answer(call, reference, self.life.facts(container))
        async with self.life.use(container.machine):
            reply = await self.lines.ask(container.machine, "POST", call.prefix + call.target, body)
            if reply.status == HTTPStatus.CREATED:
                identifier = _new_id(reply)
                if self._instances.get(identifier, container.machine) != container.machine:
                    raise _no_new_id()
                self._note_exec(identifier, container.machine)
        return reply

    async def machine_of_exec(self, identifier: str) -> str:
        """Return the machine of an exec instance. After a restart of the endpoint, Docker in each
        machine is asked.

        :raises Refusal: if there is no such instance, in Docker's words.
        """
        machine = self._instances.get(identifier)
        if machine in self.life.names:
            return str(machine)
        names = [name for name in self.life.names if self.life.power.is_up(name)]
        present = await asyncio.gather(*(self._has_exec(name, identifier) for name in names))
        claimants = [name for name, is_present in zip(names, present, strict=True) if is_present]
        if len(claimants) > 1:
            # Programs in a machine can answer that they have the instance of another one.
            raise Refusal(
                f"The machines {', '.join(claimants)} claim to have exec instance {identifier}. "
                "Create another one.",
                HTTPStatus.CONFLICT,
            )
        if not claimants:
            raise Refusal(f"No such exec instance: {identifier}", HTTPStatus.NOT_FOUND)
        self._note_exec(identifier, claimants[0])
        return claimants[0]

    async def _has_exec(self, machine: str, identifier: str) -> bool:
        """Return whether a machine answers that a container in it has an exec instance."""
        path = f"/exec/{quote(identifier, safe='')}/json"
        with contextlib.suppress(Refusal):
            reply = await self.lines.ask(machine, "GET", path, patience=SHORT)
            if reply.status == HTTPStatus.OK and isinstance(facts := reply.json(), dict):
                own_ids = {container.id for container in self.containers.on(machine)}
                return facts.get("ID") == identifier and facts.get("ContainerID") in own_ids
        return False

    def _note_exec(self, identifier: str, machine: str) -> None:
        self._instances[identifier] = machine
        if len(self._instances) > NOTED_EXECS:
            self._instances.popitem(last=False)

    async def _place(
        self,
        call: Call,
        config: dict[str, Any],
        name: str,
        networks: frozenset[str],
        volumes: dict[str, dict[str, str]],
    ) -> Reply:
        """Create a container in the machine that it shares, or in a new one."""
        image_ports: list[str] = []
        if (config.get("HostConfig") or {}).get("PublishAllPorts"):
            image_ports = await self.images.exposed_ports(str(config.get("Image") or ""))
        ports = publish(config, self.machines.free_port, image_ports)
        required_machines = self.networks.machines_of(networks)
        required_machines |= await self.volumes.machines_of(volumes)
        machine = shared_machine(self.containers, config, required_machines)
        demand = demand_of(config.get("HostConfig") or {})
        is_new, is_forked = not machine, False
        if is_new:
            await self.images.check_exists(str(config.get("Image") or ""))
            machine, is_forked = await self._new_machine(Fork(name, tuple(sorted(ports)), demand))
        # A machine without a container is deleted at the end of the block.
        async with self.life.use(machine):
            if machine not in self.life.names:
                await self.life.adopt(machine)
            if not is_new:
                await self.images.ensure(machine, str(config.get("Image") or ""))
            for network in () if is_new else networks:
                await self.networks.ensure(machine, network)
            await self.socket.open_if_bound(machine, config)
            if demand != Demand() and not is_forked:
                await self._resize(machine, total((*self._demands(machine).values(), demand)))
            try:
                await self.volumes.place(machine, volumes)
                async with self.ports.added(machine, ports):
                    container = Container("", name, machine, networks, frozenset(volumes))
                    return await self._create_in(container, call, config)
            finally:
                # If the creation failed, no container needs the volumes.
                self.volumes.settle(machine)

    async def _change_name(self, call: Call, container: Container, name: str) -> Reply:
        async with self.life.use(container.machine):
            reply = await self.lines.ask(container.machine, "POST", call.prefix + call.target)
        if reply.status == HTTPStatus.NO_CONTENT:
            self.containers.change_name(container.id, name)
            self.life.keeper.note_change(container.machine, container.id)
        return reply

    async def _forget_if_gone(self, name: str) -> None:
        """Free a name whose container was removed by itself a moment ago."""
        holder = self.containers.named(name)
        if holder and self.life.power.is_up(holder.machine):
            path = f"/containers/{holder.id}/json"
            # A machine that does not answer still has it.
            with contextlib.suppress(Refusal):
                reply = await self.lines.ask(holder.machine, "GET", path, patience=SHORT)
                if reply.status == HTTPStatus.NOT_FOUND:
                    self.life.removed(holder)

    async def _new_machine(self, request: Fork) -> tuple[str, bool]:
        """Return a machine without containers, and whether it was forked for this request."""
        try:
            await self.images.ensure_generation()
            if spare := await self.spares.take():
                return spare, False
            machine = await self.spares.with_room(lambda: self.machines.fork(request))
            return machine.name, True
        except StockyardError as error:
            raise _refusal(error) from error

    async def _resize(self, machine: str, demand: Demand) -> None:
        try:
            await self.spares.with_room(lambda: self.machines.resize(machine, demand))
        except StockyardError as error:
            raise _refusal(error) from error

    def _demands(self, machine: str) -> dict[str, Demand]:
        """Return the demand of each container of a machine, by its id."""
        return {
            container.id: demand_of(self.life.facts(container).get("HostConfig") or {})
            for container in self.containers.on(machine)
        }

    def _is_discardable(self, container: Container) -> bool:
        """Return whether a container can be removed together with its machine, which does not
        run.
        """
        return (
            not self.life.power.is_up(container.machine)
            and not is_running(self.life.facts(container))
            and self.containers.on(container.machine) == [container]
        )

    async def _create_in(self, container: Container, call: Call, config: dict[str, Any]) -> Reply:
        """Create a container in its machine.

        :param container: the container, without its id.
        """
        query = {key: value[0] for key, value in call.query.items()} | {"name": container.name}
        path = f"{call.prefix}/containers/create?{urlencode(query)}"
        body = json.dumps(config).encode()
        # Docker fills new volumes from the image.
        reply = await self.lines.ask(container.machine, "POST", path, body, patience=LONG)
        if reply.status == HTTPStatus.CREATED:
            created = replace(container, id=_new_id(reply))
            if self.life.is_elsewhere(created.id, container.machine):
                raise _no_new_id()
            self.containers.add(created)
            self.life.record(created, config.get("HostConfig") or {})
        return reply


def _refusal(error: StockyardError) -> Refusal:
    """Return the refusal of a machine that cannot be created or resized."""
    if isinstance(error, PoolQuotaExceeded):
        return Refusal(str(error), HTTPStatus.CONFLICT)
    if isinstance(error, (InvalidInput, Unsupported)):
        return Refusal(str(error), HTTPStatus.BAD_REQUEST)
    return Refusal(str(error), HTTPStatus.INTERNAL_SERVER_ERROR)


def _new_id(reply: Reply) -> str:
    """Return the id of a new container or exec instance: programs in a machine can write others.

    :raises Refusal: if the reply has none.
    """
    value = reply.json()
    identifier = value.get("Id") if isinstance(value, dict) else None
    if not is_id(identifier):
        raise _no_new_id()
    return str(identifier)


def _no_new_id() -> Refusal:
    return Refusal("Docker in the machine returned no new id.", HTTPStatus.BAD_GATEWAY)
