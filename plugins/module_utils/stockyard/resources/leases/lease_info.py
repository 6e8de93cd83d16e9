# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases as users see them: whose, until when, and how the host is reached with the lease's own
certificate.
"""

from __future__ import annotations

import shlex
from typing import Any

from ...model.host import DOCKER_PORT, HostRecord
from ..context import Context
from ..hosts import access


def leases(
    ctx: Context, tenant: str | None = None, fleet: str | None = None, holder: str | None = None
) -> list[HostRecord]:
    """The records of all hosts that were leased and are still there, by holder."""
    found = [
        h.record
        for h in ctx.provider.observe(ctx.owner).hosts
        if h.record.lease
        and tenant in (None, h.record.tenant)
        and fleet in (None, h.record.fleet)
        and holder in (None, h.record.lease.holder)
    ]
    return sorted(found, key=lambda r: (r.lease.holder, r.lease.until) if r.lease else ("", 0.0))


def describe_lease(ctx: Context, record: HostRecord) -> dict[str, Any]:
    """A lease as modules return it. Nothing secret."""
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
    """A line that a POSIX shell takes the environment from."""
    return " ".join(
        ["export", *(f"{key}={shlex.quote(value)}" for key, value in environment.items())]
    )
