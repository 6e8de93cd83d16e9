# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting a host on record before it is made: its name, its addresses, and its place in a pool."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

from ...errors import AddressTaken
from ...hypervisor.capabilities import FIRST_MAC, MACS, Capabilities
from ...model.host import BOTH, UP, HostRecord, HostSpec
from ...model.template import TemplateRecord
from ..context import Context
from ..pools.pool_lifecycle import frozen, most, size_of

ADDRESS_TRIES = 8


@dataclass(frozen=True)
class HostRequest:
    """A host to be made: whose it is, what it is like, and how many seconds it lives
    (0: for ever).
    """

    tenant: str
    fleet: str
    name: str
    spec: HostSpec
    labels: dict[str, str]
    ttl: float = 0.0


def request_like(record: HostRecord) -> HostRequest:
    """The order of a host like one that is there."""
    ttl = record.expires - record.created if record.expires else 0.0
    return HostRequest(record.tenant, record.fleet, record.name, record.spec, record.labels, ttl)


def reserve(ctx: Context, order: HostRequest, template: TemplateRecord) -> HostRecord:
    """Put the host on record under an address that nobody has."""
    for attempt in range(ADDRESS_TRIES):
        record = _draft(ctx, order, template)
        try:
            ctx.provider.create_host(record, template)
            return record
        except AddressTaken:
            if attempt == ADDRESS_TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _draft(ctx: Context, order: HostRequest, template: TemplateRecord) -> HostRecord:
    own, now = uuid.uuid4(), ctx.clock.now()
    return HostRecord(
        owner=ctx.owner,
        tenant=order.tenant,
        fleet=order.fleet,
        name=order.name,
        uuid=str(own),
        template=template.name,
        generation=template.generation,
        spec=order.spec,
        ssh_user=template.ssh_user,
        mac=mac_of(own, ctx.provider.capabilities),
        address=ctx.provider.host_address(order.spec, str(own)) or address_of(own),
        phase="creating",
        created=now,
        expires=now + order.ttl if order.ttl else 0.0,
        labels=dict(order.labels),
        size=size_of(order.spec, template),
        frozen=frozen(template),
        most=most(ctx, template),
        encrypted=template.encrypted,
        resizes=BOTH if ctx.provider.capabilities.shrinks else UP,
    )


def mac_of(own: uuid.UUID, range_: Capabilities | None = None) -> str:
    """A MAC address out of a uuid, of those that a hypervisor's machines may have; QEMU's when none
    is given.
    """
    first, count = (range_.first_mac, range_.macs) if range_ else (FIRST_MAC, MACS)
    chosen = (
        int(first.replace(":", ""), 16)
        + int.from_bytes(hashlib.sha256(own.bytes).digest()[:3], "big") % count
    )
    return chosen.to_bytes(6, "big").hex(":")


def address_of(own: uuid.UUID) -> str:
    """A loopback address out of a uuid: 127.64.0.0/10 has four million, so none comes back soon."""
    first, second, third = hashlib.sha256(own.bytes).digest()[3:6]
    return f"127.{64 + first % 64}.{second}.{1 + third % 254}"
