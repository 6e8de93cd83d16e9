# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases as users see them: holder, end, and access to the host with the lease's certificate."""

from __future__ import annotations

import shlex
from typing import Any

from ...model.host import DOCKER_PORT, HostRecord
from ..context import Context
from ..hosts import access


def leases(
    ctx: Context, tenant: str | None = None, fleet: str | None = None, holder: str | None = None
) -> list[HostRecord]:
    """Return the records of all existing hosts that were leased, sorted by holder."""
    records = [
        host.record
        for host in ctx.provider.observe(ctx.owner).hosts
        if host.record.lease
        and tenant in (None, host.record.tenant)
        and fleet in (None, host.record.fleet)
        and holder in (None, host.record.lease.holder)
    ]
    return sorted(
        records,
        key=lambda record: (record.lease.holder, record.lease.until) if record.lease else ("", 0.0),
    )


def describe_lease(ctx: Context, record: HostRecord) -> dict[str, Any]:
    """Return the facts of a lease that modules show. Nothing secret."""
    lease = record.lease
    if lease is None:
        return {}
    certificates = str(ctx.pki(record.tenant).lease_directory(lease.id))
    endpoint = f"tcp://{record.address}:{DOCKER_PORT}"
    environment = {
        "DOCKER_HOST": endpoint,
        "DOCKER_CERT_PATH": certificates,
        "DOCKER_TLS_VERIFY": "1",
    }
    return {
        "id": lease.id,
        "holder": lease.holder,
        "taken": lease.taken,
        "until": lease.until,
        "ended": lease.ended(ctx.clock.now()) or record.phase != "ready",
        "certificate": lease.certificate,
        "host": record.name,
        "fleet": record.fleet,
        "tenant": record.tenant,
        "address": record.address,
        "docker": {
            "endpoint": endpoint,
            "environment": environment,
            "export": exported(environment),
            "context": access.context_command(record.name, endpoint, certificates),
        },
    }


def exported(environment: dict[str, str]) -> str:
    """Return a line with which a POSIX shell sets the environment."""
    return " ".join(
        ["export", *(f"{key}={shlex.quote(value)}" for key, value in environment.items())]
    )
