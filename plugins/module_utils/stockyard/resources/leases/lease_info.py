# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases as users see them: holder, end, and access to the host with the lease's certificate."""

from __future__ import annotations

from ...model.host import HostRecord
from ...model.lease import Lease
from ...model.lease_info import LeaseInfo
from ..context import Context
from ..hosts import access


def leases(
    ctx: Context, tenant: str | None = None, fleet: str | None = None, holder: str | None = None
) -> tuple[LeaseInfo, ...]:
    """Return the leases of all existing hosts that were leased, by holder."""
    infos = [
        describe_lease(ctx, host.record, host.record.lease)
        for host in ctx.provider.observe(ctx.owner).hosts
        if host.record.lease
        and tenant in (None, host.record.tenant)
        and fleet in (None, host.record.fleet)
        and holder in (None, host.record.lease.holder)
    ]
    return tuple(sorted(infos, key=lambda lease: (lease.holder, lease.until)))


def describe_lease(ctx: Context, record: HostRecord, lease: Lease) -> LeaseInfo:
    """Return the public facts of a lease. Nothing secret."""
    certificates = str(ctx.pki(record.tenant).lease_directory(lease.id))
    return LeaseInfo(
        id=lease.id,
        holder=lease.holder,
        taken=lease.taken,
        until=lease.until,
        ended=lease.ended(ctx.clock.now()) or record.phase != "ready",
        certificate=lease.certificate,
        host=record.name,
        fleet=record.fleet,
        tenant=record.tenant,
        address=record.address,
        docker=access.describe_docker(record, certificates),
    )
