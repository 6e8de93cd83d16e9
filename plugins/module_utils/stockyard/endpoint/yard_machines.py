# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines of an endpoint on a yard: hosts that are forked from branches of the image host."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import socket
import ssl
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

from ..clock import Deadline
from ..errors import NotFound
from ..guest.security.reader.streams import Peer
from ..model import naming
from ..model.container_machine import (
    BUILDS,
    CONTAINER_NAME,
    ENDPOINT_LABEL,
    FACTS_PREFIX,
    ITS_IMAGE_HOST,
    NEEDED_AT,
)
from ..model.host import DOCKER_PORT, SUSPENDED, UP, Host, HostRecord
from ..model.security import DEFAULTS
from ..model.size import Size, larger
from ..planning.bound_socket import check_bindable
from ..planning.quota import DEEPEST
from ..planning.resize import check, desired_size, fitting_size
from ..resources.context import Context
from ..resources.fleets.branch_host import template_of
from ..resources.fleets.host_generation import HostGeneration, freeze_generation
from ..resources.hosts import docker_api, host_lifecycle, suspension
from ..resources.hosts.sizing import resize
from .machines import GONE, IMAGE_HOST, BoundSocket, Fork, Machine
from .sizes import Demand
from .socket_tunnels import SocketTunnels
from .tls import connect_tls
from .yard_volumes import YardVolumes

LOOPBACK = "127.0.0.1"
# Seconds for a freeze, a fork or a deletion.
PATIENCE = 600.0
# The memory of a machine beyond the limits of its containers, in MiB.
OVERHEAD_MIB = 128
# Seconds after which the client certificate is read again, and renewed if it is due.
KEYS_FRESH = 3600.0


class YardMachines:
    """The machines of an endpoint on a yard.

    :param name: the name of the endpoint.
    :param image_host: the name of its image host.
    :param publish: the address of the hypervisor that ports of containers are published on.
    :param socket: the socket that containers can bind; ``None`` if none can.
    """

    def __init__(
        self,
        ctx: Context,
        tenant: str,
        name: str,
        image_host: str,
        publish: str = LOOPBACK,
        socket: BoundSocket | None = None,
    ) -> None:
        self.ctx = ctx
        self.tenant = tenant
        self.title = naming.name("endpoint", name)
        self.volumes = YardVolumes(ctx, tenant, self.title)
        self.image_host = image_host
        self.publish = publish
        self.socket = socket
        self.tunnels = SocketTunnels(ctx, tenant, self.title)
        self.id = ""
        self._records: dict[str, HostRecord] = {}
        self._generation: HostGeneration | None = None
        # How many machines are being forked from each branch.
        self._forks: Counter[str] = Counter()
        self._context: ssl.SSLContext | None = None
        self._read_at = 0.0

    def start_image_host(self) -> None:
        """Start the image host if it does not run, for example after a restart of the hypervisor.

        :raises NotFound: if it does not exist.
        :raises OperationRefused: if its containers could not have the socket that they can bind.
        """
        ctx = self.ctx
        host = self._find_image_host()
        if host is None:
            raise NotFound(
                "the host does not exist.",
                name=f"host {self.image_host}",
                remedy="create the image host first",
            )
        if self.socket:
            observation = ctx.provider.observe(ctx.owner)
            check_bindable(template_of(observation, host).record.profile, host.record)
        deadline = ctx.deadline(PATIENCE)
        with ctx.provider.exclusive(ctx.host_lock(host.record), deadline):
            host = self._find_image_host()
            if host and host.record.phase == "ready" and not host.serving:
                _start(ctx, host, deadline)

    async def all(self) -> list[Machine]:
        """Return the container machines; those whose creation, deletion or build was interrupted
        are deleted.
        """
        hosts = await asyncio.to_thread(self._observe)
        ready = [host for host in hosts if host.record.phase == "ready" and not _builds(host)]
        for host in hosts:
            if host not in ready:
                await asyncio.to_thread(self._destroy, host.name)
        self._records |= {host.name: host.record for host in ready}
        return [
            Machine(host.name, _facts(host.record.labels), _state(host), host.record.containers)
            for host in ready
        ]

    async def builds_apart(self) -> bool:
        """Return whether the profile of the image host does not trust containers."""
        return await asyncio.to_thread(self._builds_apart)

    async def renew_generation(self) -> None:
        """Freeze the image host as it is now."""
        previous = self._generation
        deadline = self.ctx.deadline(PATIENCE)
        self._generation = await asyncio.to_thread(
            freeze_generation, self.ctx, self.tenant, self.image_host, deadline
        )
        if previous:
            await self._release_if_unused(previous)

    def free_port(self, ports: Iterable[int]) -> int:
        """Return the first of some TCP ports that no program uses at the address of the endpoint;
        0 is any port.

        :raises OSError: if there is none.
        """
        for port in ports:
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((self.publish, port))
                return int(probe.getsockname()[1])
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    async def fork(self, request: Fork) -> Machine:
        """Create a container machine from the current generation."""
        if self._generation is None:
            await self.renew_generation()
        generation = cast("HostGeneration", self._generation)
        # A container's name can have characters that a machine's cannot have.
        name = f"{self.title}-{secrets.token_hex(6)}"
        facts = {ITS_IMAGE_HOST: self.image_host}
        if request.container:
            facts[CONTAINER_NAME] = request.container
        if request.builds:
            facts[BUILDS] = "yes"
        labels = {ENDPOINT_LABEL: self.title, **_labels(facts)}
        self._forks[generation.branch.uuid] += 1
        try:
            record = await asyncio.to_thread(
                generation.create_host,
                name,
                labels,
                request.ports,
                self.publish,
                _required(request.demand, generation.template.profile),
                self.ctx.deadline(PATIENCE),
            )
        finally:
            self._forks[generation.branch.uuid] -= 1
            await self._release_if_unused(generation)
        self._records[name] = record
        return Machine(name, facts)

    def ports(self, name: str) -> frozenset[int]:
        """Return the TCP ports of a machine that the hypervisor publishes."""
        record = self._records.get(name)
        return frozenset(record.spec.ports) if record else frozenset()

    async def set_ports(self, name: str, ports: frozenset[int]) -> None:
        """Replace the published ports of a machine."""
        record = await asyncio.to_thread(self._set_ports, name, ports)
        if name in self._records:
            self._records[name] = record

    async def keep(self, name: str) -> bool:
        """Note that a machine without a container is needed. Return whether it runs."""
        record = await asyncio.to_thread(self._keep, name)
        if record and name in self._records:
            self._records[name] = record
        return record is not None

    async def open_socket(self, name: str) -> None:
        """Let the socket in a running machine lead to the endpoint."""
        await asyncio.to_thread(self._open_socket, name)

    async def note(self, name: str, facts: Mapping[str, str], containers: str) -> None:
        """Add facts to the record of a machine, unless it is being deleted."""
        await asyncio.to_thread(self._relabel, name, _labels(facts), containers)

    async def resize(self, name: str, demand: Demand) -> None:
        """Resize a running machine, so that the limits of all its containers fit into it."""
        await asyncio.to_thread(self._resize, name, demand)

    async def capacity(self) -> Size:
        """Return the processors and the memory of the pool; those of the hypervisor for a limit
        that no pool has.
        """
        return await asyncio.to_thread(self._capacity)

    async def suspend(self, name: str) -> None:
        """Save the memory of a machine, or shut it down if the hypervisor cannot save it."""
        await asyncio.to_thread(self._suspend, name)

    async def wake(self, name: str) -> None:
        """Resume or boot a machine that does not run, and wait until Docker answers."""
        await asyncio.to_thread(self._wake, name)

    async def delete(self, name: str) -> None:
        """Delete a container machine."""
        self._records.pop(name, None)
        await asyncio.to_thread(self._destroy, name)

    async def state(self, name: str) -> str:
        """Return the state of a container machine."""
        observation = await asyncio.to_thread(self.ctx.provider.observe, self.ctx.owner)
        host = observation.host(self.tenant, name)
        return _state(host) if host else GONE

    async def connect(self, name: str) -> Peer:
        """Open a line to Docker in a machine, by mutual TLS."""
        record = self._records.get(name)
        if record is None and name == IMAGE_HOST:
            record = await asyncio.to_thread(self._image_host)
            self._records[name] = record
            self.id = record.uuid
        if record is None:
            raise ConnectionError(f"the machine {name} does not exist")
        clock = self.ctx.clock
        if self._context is None or clock.monotonic() - self._read_at > KEYS_FRESH:
            pki = self.ctx.pki(self.tenant)
            client = await asyncio.to_thread(pki.client, self.ctx.today())
            self._context, self._read_at = docker_api.tls(client), clock.monotonic()
        return await connect_tls(record.address, DOCKER_PORT, self._context)

    async def close(self) -> None:
        """Release the generation."""
        if self._generation:
            await asyncio.to_thread(self._generation.release)

    async def _release_if_unused(self, generation: HostGeneration) -> None:
        """Release a generation that is not the current one, and that no machine is forked from."""
        if generation is not self._generation and not self._forks[generation.branch.uuid]:
            del self._forks[generation.branch.uuid]
            await asyncio.to_thread(generation.release)

    def _observe(self) -> list[Host]:
        observation = self.ctx.provider.observe(self.ctx.owner)
        return [
            host
            for host in observation.of_tenant(self.tenant)
            if host.record.labels.get(ENDPOINT_LABEL) == self.title
        ]

    def _image_host(self) -> HostRecord:
        host = self._find_image_host()
        if host is None or not host.serving:
            raise ConnectionError(f"the image host {self.image_host} does not run")
        return host.record

    def _find_image_host(self) -> Host | None:
        observation = self.ctx.provider.observe(self.ctx.owner)
        return observation.host(self.tenant, self.image_host)

    def _builds_apart(self) -> bool:
        observation = self.ctx.provider.observe(self.ctx.owner)
        host = observation.host(self.tenant, self.image_host)
        return host is None or template_of(observation, host).record.profile != "trusted"

    def _destroy(self, name: str) -> None:
        with self._locked(name) as host:
            if host:
                host_lifecycle.destroy(self.ctx, host.record)
                self.tunnels.forget(host.record)

    def _open_socket(self, name: str) -> None:
        with self._locked(name) as host:
            if host is None or self.socket is None:
                raise NotFound("the machine does not exist.", name=f"host {name}")
            self.tunnels.open(host.record, self.socket.path, self.ctx.deadline(PATIENCE))

    def _keep(self, name: str) -> HostRecord | None:
        facts = {NEEDED_AT: f"{self.ctx.clock.now():.0f}"}
        with self._locked(name) as host:
            if host is None or host.record.phase != "ready" or not host.serving:
                return None
            labels = {**host.record.labels, **_labels(facts)}
            return host_lifecycle.relabel(self.ctx, host.record, labels)

    def _relabel(self, name: str, labels: dict[str, str], containers: str) -> None:
        with self._locked(name) as host:
            if host and host.record.phase == "ready":
                changed_labels = {**host.record.labels, **labels}
                host_lifecycle.relabel(self.ctx, host.record, changed_labels, containers)

    def _resize(self, name: str, demand: Demand) -> None:
        ctx = self.ctx
        with self._locked(name) as host:
            if host is None:
                raise NotFound("the machine does not exist.", name=f"host {name}")
            record, observation = host.record, ctx.provider.observe(ctx.owner)
            profile = template_of(observation, host).record.profile
            image_host = observation.host(self.tenant, self.image_host)
            minimum = record.template_size
            if image_host:
                minimum = desired_size(image_host.record.spec, minimum)
            required = larger(_required(demand, profile), minimum)
            size = fitting_size(required, record.template_size, record.max_size)
            if record.resize_mode == UP:
                size = larger(size, record.size)
            spec = replace(record.spec, vcpus=size.vcpus, memory_mib=size.memory_mib)
            if desired_size(spec, record.template_size) == record.size:
                return
            check(spec, record.template_size, record.max_size, record.title)
            self._records[name] = resize(ctx, record, spec, ctx.deadline(PATIENCE))

    def _capacity(self) -> Size:
        capacity = self.ctx.provider.capacity()
        vcpus, memory_mib = capacity.vcpus, capacity.memory_mib
        observation = self.ctx.provider.observe(self.ctx.owner)
        host = observation.host(self.tenant, self.image_host)
        pools = {pool.name: pool for pool in observation.pools if pool.tenant == self.tenant}
        pool = pools.get(host.record.spec.pool) if host else None
        for _level in range(DEEPEST):
            if pool is None:
                break
            vcpus = _smaller(vcpus, pool.spec.limit("vcpus"))
            memory_mib = _smaller(memory_mib, pool.spec.limit("memory_mib"))
            pool = pools.get(pool.spec.parent)
        return Size(vcpus, memory_mib)

    def _suspend(self, name: str) -> None:
        ctx = self.ctx
        with self._locked(name) as host:
            if host is None or not host.serving:
                return
            deadline = ctx.deadline(PATIENCE)
            has_keys = bool(suspension.reason_of_keys(ctx, host.record))
            if ctx.provider.capabilities.suspends and not has_keys:
                suspension.check(ctx, [host.record])
                self._records[name] = host_lifecycle.suspend(ctx, host.record, deadline)
            else:
                ctx.provider.stop(host.record, deadline)

    def _wake(self, name: str) -> None:
        ctx = self.ctx
        with self._locked(name) as host:
            if host is None or host.record.phase != "ready":
                raise NotFound("the machine does not exist.", name=f"host {name}")
            if host.serving:
                return
            self._records[name] = _start(ctx, host, ctx.deadline(PATIENCE))

    def _set_ports(self, name: str, ports: frozenset[int]) -> HostRecord:
        with self._locked(name) as host:
            if host is None:
                raise NotFound("the machine does not exist.", name=f"host {name}")
            return self.ctx.provider.publish(host.record, sorted(ports), self.publish)

    @contextmanager
    def _locked(self, name: str) -> Iterator[Host | None]:
        """Hold the lock of a machine; the value is the machine as it is now, if it exists."""
        ctx = self.ctx
        lock = ctx.lock_name("host", self.tenant, name)
        with ctx.provider.exclusive(lock, ctx.deadline(PATIENCE)):
            yield next((host for host in self._observe() if host.name == name), None)


def _required(demand: Demand, profile: str) -> Size:
    """Return the size that containers need, with the part that the system needs.

    :param profile: the security profile of the machine.
    """
    memory_mib = demand.memory_mib
    if memory_mib:
        limits = DEFAULTS[profile].limits
        # The part of the memory that one container can use, in hundredths.
        percents = (limits.memory_percent or 100, limits.container_memory_percent or 100)
        memory_mib = max(memory_mib + OVERHEAD_MIB, -(-memory_mib * 100 // min(percents)))
    return Size(demand.vcpus, memory_mib)


def _start(ctx: Context, host: Host, deadline: Deadline) -> HostRecord:
    start = host_lifecycle.resume if host.suspended else host_lifecycle.start
    return start(ctx, host.record, deadline)


def _state(host: Host) -> str:
    """Return the state of a machine; one whose resume is not complete does not run."""
    return SUSPENDED if host.record.resuming else host.state


def _builds(host: Host) -> bool:
    return f"{FACTS_PREFIX}{BUILDS}" in host.record.labels


def _smaller(first: int, second: int) -> int:
    """Return the smaller one of two limits; 0 is none."""
    return min(first, second) if first and second else first or second


def _labels(facts: Mapping[str, str]) -> dict[str, str]:
    return {f"{FACTS_PREFIX}{key}": value for key, value in facts.items()}


def _facts(labels: Mapping[str, str]) -> dict[str, str]:
    return {
        key.removeprefix(FACTS_PREFIX): value
        for key, value in labels.items()
        if key.startswith(FACTS_PREFIX)
    }
