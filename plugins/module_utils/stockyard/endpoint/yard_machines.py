# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines of an endpoint on a yard: hosts that are forked from branches of the image host."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from ..errors import NotFound
from ..guest.security.reader.streams import Peer
from ..model import naming
from ..model.host import DOCKER_PORT, HostRecord
from ..resources.context import Context
from ..resources.fleets.host_generation import HostGeneration, freeze_generation
from ..resources.hosts import docker_api, host_lifecycle
from .machines import CONTAINER_NAME, ENDPOINT_LABEL, IMAGE_HOST, Fork, Machine
from .tls import connect_tls
from .yard_volumes import YardVolumes

# The labels that hold the other facts of a machine begin with this.
FACTS_PREFIX = "stockyard.endpoint/"
LOOPBACK = "127.0.0.1"
# Seconds for a freeze, a fork or a deletion.
PATIENCE = 600.0
# Seconds after which the client certificate is read again, and renewed if it is due.
KEYS_FRESH = 3600.0


class YardMachines:
    """The machines of an endpoint on a yard.

    :param name: the name of the endpoint.
    :param image_host: the name of its image host.
    :param publish: the address of the hypervisor that ports of containers are published on.
    """

    def __init__(
        self, ctx: Context, tenant: str, name: str, image_host: str, publish: str = LOOPBACK
    ) -> None:
        self.ctx = ctx
        self.tenant = tenant
        self.title = naming.name("endpoint", name)
        self.volumes = YardVolumes(ctx, tenant, self.title)
        self.image_host = image_host
        self.publish = publish
        self.id = ""
        self._records: dict[str, HostRecord] = {}
        self._generation: HostGeneration | None = None
        self._context: ssl.SSLContext | None = None
        self._read_at = 0.0

    async def all(self) -> list[Machine]:
        """Return the container machines; those whose creation or deletion was interrupted are
        deleted.
        """
        records = await asyncio.to_thread(self._observe)
        for record in records:
            if record.phase != "ready":
                await asyncio.to_thread(self._destroy, record.name)
        ready = [record for record in records if record.phase == "ready"]
        self._records |= {record.name: record for record in ready}
        return [Machine(record.name, _facts(record.labels)) for record in ready]

    async def renew_generation(self) -> None:
        """Freeze the image host as it is now."""
        previous = self._generation
        deadline = self.ctx.deadline(PATIENCE)
        self._generation = await asyncio.to_thread(
            freeze_generation, self.ctx, self.tenant, self.image_host, deadline
        )
        if previous:
            await asyncio.to_thread(previous.release)

    def free_port(self) -> int:
        """Return a TCP port of the address of the endpoint that no program uses now."""
        with socket.socket() as probe:
            probe.bind((self.publish, 0))
            return int(probe.getsockname()[1])

    async def fork(self, request: Fork) -> Machine:
        """Create a container machine from the current generation."""
        if self._generation is None:
            await self.renew_generation()
        # A container's name can have characters that a machine's cannot have.
        name = f"{self.title}-{secrets.token_hex(6)}"
        facts = {CONTAINER_NAME: request.container}
        labels = {ENDPOINT_LABEL: self.title, **_labels(facts)}
        record = await asyncio.to_thread(
            cast(HostGeneration, self._generation).create_host,
            name,
            labels,
            request.ports,
            self.publish,
            self.ctx.deadline(PATIENCE),
        )
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

    async def note(self, name: str, facts: Mapping[str, str]) -> None:
        """Add facts to the record of a machine, unless it is being deleted."""
        await asyncio.to_thread(self._relabel, name, _labels(facts))

    async def delete(self, name: str) -> None:
        """Delete a container machine."""
        self._records.pop(name, None)
        await asyncio.to_thread(self._destroy, name)

    async def is_running(self, name: str) -> bool:
        """Return whether a container machine runs."""
        observation = await asyncio.to_thread(self.ctx.provider.observe, self.ctx.owner)
        host = observation.host(self.tenant, name)
        return host is not None and host.state == "running"

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

    def _observe(self) -> list[HostRecord]:
        observation = self.ctx.provider.observe(self.ctx.owner)
        return [
            host.record
            for host in observation.of_tenant(self.tenant)
            if host.record.labels.get(ENDPOINT_LABEL) == self.title
        ]

    def _image_host(self) -> HostRecord:
        observation = self.ctx.provider.observe(self.ctx.owner)
        host = observation.host(self.tenant, self.image_host)
        if host is None or not host.serving:
            raise ConnectionError(f"the image host {self.image_host} does not run")
        return host.record

    def _destroy(self, name: str) -> None:
        with self._locked(name) as record:
            if record:
                host_lifecycle.destroy(self.ctx, record)

    def _set_ports(self, name: str, ports: frozenset[int]) -> HostRecord:
        with self._locked(name) as record:
            if record is None:
                raise NotFound("the machine does not exist.", name=f"host {name}")
            return self.ctx.provider.publish(record, sorted(ports), self.publish)

    def _relabel(self, name: str, labels: dict[str, str]) -> None:
        with self._locked(name) as record:
            if record and record.phase == "ready":
                host_lifecycle.relabel(self.ctx, record, {**record.labels, **labels})

    @contextmanager
    def _locked(self, name: str) -> Iterator[HostRecord | None]:
        """Hold the lock of a machine; the value is its present record, if it exists."""
        ctx = self.ctx
        lock = ctx.lock_name("host", self.tenant, name)
        with ctx.provider.exclusive(lock, ctx.deadline(PATIENCE)):
            records = (record for record in self._observe() if record.name == name)
            yield next(records, None)


def _labels(facts: Mapping[str, str]) -> dict[str, str]:
    return {f"{FACTS_PREFIX}{key}": value for key, value in facts.items()}


def _facts(labels: Mapping[str, str]) -> dict[str, str]:
    return {
        key.removeprefix(FACTS_PREFIX): value
        for key, value in labels.items()
        if key.startswith(FACTS_PREFIX)
    }
