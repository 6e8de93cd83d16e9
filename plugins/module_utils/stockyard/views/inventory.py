# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All hosts of a yard from one observation of the hypervisor, with the facts that an inventory
needs.

``access.describe_host`` returns more facts of a host, and asks the hypervisor for each host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..model.host import Host, HostRecord
from ..model.observation import UnreadableObject
from ..planning.lease_policy import deletion_reason, is_held
from ..resources.context import Context
from ..resources.hosts import access

HELD, OVER, FREE, NOT_FOR_LEASE = "held", "over", "free", "none"


@dataclass(frozen=True)
class Listing:
    """The hosts of a yard, by tenant and name, and the unreadable objects with this owner's marker.

    :param hosts: public facts of each host, paths of keys and certificates, and nothing secret.
    """

    hosts: list[dict[str, Any]]
    unreadable: tuple[UnreadableObject, ...]


def listing(ctx: Context) -> Listing:
    """Observe the yard, and pin the SSH host keys that are on record. Changes nothing else."""
    observation = ctx.provider.observe(ctx.owner)
    hosts = sorted(observation.hosts, key=lambda member: (member.record.tenant, member.record.name))
    for tenant in {member.record.tenant for member in hosts}:
        access.name_hosts(
            ctx, tenant, [member.record for member in hosts if member.record.tenant == tenant]
        )
    current_time = ctx.clock.now()
    return Listing([_entry(ctx, host, current_time) for host in hosts], observation.unreadable)


def lease_state(record: HostRecord, current_time: float) -> str:
    """Return the lease state of a host: ``held``, ``over``, ``free`` to be leased, or of no fleet
    (``none``).
    """
    if is_held(record, current_time):
        return HELD
    if deletion_reason(record, current_time) or record.lease:
        return OVER
    return FREE if record.fleet else NOT_FOR_LEASE


def _entry(ctx: Context, host: Host, current_time: float) -> dict[str, Any]:
    record = host.record
    lease = record.lease
    return {
        "name": record.name,
        "tenant": record.tenant,
        "fleet": record.fleet,
        "template": record.template,
        "generation": record.generation[:12],
        "pool": record.spec.pool,
        "labels": dict(record.labels),
        "phase": record.phase,
        "state": host.state,
        "ready": host.serving,
        "expires": record.expires,
        "published": [f"{address}:{port}" for address, port in record.port_addresses],
        "lease": {
            "state": lease_state(record, current_time),
            "holder": lease.holder if lease else "",
            "until": lease.until if lease else 0.0,
        },
        **_ways(ctx, record),
    }


def _ways(ctx: Context, record: HostRecord) -> dict[str, Any]:
    """Return the access to a host: by SSH, by Docker's API, and by the guest's agent if that is
    possible.
    """
    pki = ctx.pki(record.tenant)
    ssh_address, ssh_port = record.ssh_endpoint
    docker_address, docker_port = record.docker_endpoint
    certificates = {
        part: str(pki.client_directory / f"{part}.pem") for part in ("ca", "cert", "key")
    }
    agent_uri = ctx.provider.capabilities.guest_agent
    agent = {"uri": agent_uri, "domain": record.domain} if agent_uri else None
    return {
        "ssh": {
            "host": ssh_address,
            "port": ssh_port,
            "user": record.ssh_user,
            "private_key": access.private_key_for(ctx, record),
            "known_hosts": str(pki.known_hosts_of(ctx.provider.uri)),
        },
        "docker": {"endpoint": f"tcp://{docker_address}:{docker_port}", **certificates},
        "agent": agent,
    }
