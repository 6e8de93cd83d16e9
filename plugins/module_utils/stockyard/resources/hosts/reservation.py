# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reservation of a host before it is created: its name, its addresses, and its place in
a pool.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, replace

from ...errors import AddressTaken
from ...hypervisor.capabilities import FIRST_MAC, MACS, Capabilities
from ...model.fleet_terms import FleetTerms
from ...model.host import BOTH, UP, HostRecord, HostSpec
from ...model.template import TemplateRecord
from ..context import Context
from ..pools.pool_lifecycle import frozen, most, size_of

ADDRESS_TRIES = 8


@dataclass(frozen=True)
class HostRequest:
    """A host to create: its tenant and fleet, its declaration, and its lifetime in seconds (0:
    unlimited).

    :param fleet_max: the number of hosts up to which a waiting lease adds hosts to its fleet.
    :param fleet_terms: the declared numbers of its fleet.
    """

    tenant: str
    fleet: str
    name: str
    spec: HostSpec
    labels: dict[str, str]
    ttl: float = 0.0
    fleet_max: int = 0
    fleet_terms: FleetTerms | None = None


def request_like(record: HostRecord) -> HostRequest:
    """Return the request for a host like an existing one."""
    ttl = record.expires - record.created if record.expires else 0.0
    return HostRequest(
        record.tenant,
        record.fleet,
        record.name,
        record.spec,
        record.labels,
        ttl,
        record.fleet_max,
        record.fleet_terms,
    )


def reserve(
    ctx: Context, request: HostRequest, template: TemplateRecord, branch: str = ""
) -> HostRecord:
    """Put the host on record under an unused address.

    :param branch: the uuid of the branch that it is forked from; empty for a fork of a template.
    """
    for attempt in range(ADDRESS_TRIES):
        record = replace(_draft(ctx, request, template), branch=branch)
        try:
            return ctx.provider.create_host(record, template)
        except AddressTaken:
            if attempt == ADDRESS_TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _draft(ctx: Context, request: HostRequest, template: TemplateRecord) -> HostRecord:
    host_uuid, current_time = uuid.uuid4(), ctx.clock.now()
    return HostRecord(
        owner=ctx.owner,
        tenant=request.tenant,
        fleet=request.fleet,
        name=request.name,
        uuid=str(host_uuid),
        template=template.name,
        generation=template.generation,
        spec=request.spec,
        ssh_user=template.ssh_user,
        mac=mac_of(host_uuid, ctx.provider.capabilities),
        address=ctx.provider.host_address(request.spec, str(host_uuid)) or address_of(host_uuid),
        phase="creating",
        created=current_time,
        expires=current_time + request.ttl if request.ttl else 0.0,
        labels=dict(request.labels),
        size=size_of(request.spec, template),
        template_size=frozen(template),
        max_size=most(ctx, template),
        encrypted=template.encrypted,
        resize_mode=BOTH if ctx.provider.capabilities.shrinks else UP,
        fleet_max=request.fleet_max,
        fleet_terms=request.fleet_terms,
    )


def mac_of(machine_uuid: uuid.UUID, range_: Capabilities | None = None) -> str:
    """Return a MAC address derived from a uuid, in the range of a hypervisor; in QEMU's range if
    none is given.
    """
    first, count = (range_.first_mac, range_.macs) if range_ else (FIRST_MAC, MACS)
    number = (
        int(first.replace(":", ""), 16)
        + int.from_bytes(hashlib.sha256(machine_uuid.bytes).digest()[:3], "big") % count
    )
    return number.to_bytes(6, "big").hex(":")


def address_of(host_uuid: uuid.UUID) -> str:
    """Return a loopback address derived from a uuid: 127.64.0.0/10 has four million, so reuse is
    rare.
    """
    first, second, third = hashlib.sha256(host_uuid.bytes).digest()[3:6]
    return f"127.{64 + first % 64}.{second}.{1 + third % 254}"
