# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot of a yard: all objects of each kind at one moment, with their costs.

The page and the metrics take their tables from the snapshot. A new kind of object needs a new key
here and a table in each of them.
"""

from __future__ import annotations

from typing import Any

from ..resources import guest_status
from ..resources.context import Context
from ..resources.hosts import access, trust
from ..resources.leases import lease_info
from ..resources.pools import pool_lifecycle
from ..resources.templates import freshness
from ..resources.volumes import volume_lifecycle
from .inventory import lease_state

Snapshot = dict[str, Any]


def take_snapshot(ctx: Context) -> Snapshot:
    """Observe everything. Changes nothing, asks no mirror, and returns nothing secret."""
    observation, current_time = ctx.provider.observe(ctx.owner), ctx.clock.now()
    hosts = sorted(observation.hosts, key=lambda member: (member.record.tenant, member.record.name))
    templates = sorted(
        observation.templates,
        key=lambda generation: (
            generation.record.tenant,
            generation.record.name,
            generation.record.since,
        ),
    )
    drift, outdated_uuids = trust.drifts(ctx, hosts), freshness.outdated(observation)
    clocks = guest_status.skewed(hosts, guest_status.statuses(ctx, hosts))
    fleets: dict[tuple[str, str], list[Any]] = {}
    for host in hosts:
        if host.record.fleet:
            fleets.setdefault((host.record.tenant, host.record.fleet), []).append(host)
    return {
        "hypervisor": ctx.provider.uri,
        "owner": ctx.owner,
        "taken": current_time,
        "fleets": [
            access.describe_fleet(fleets[key], drift, outdated_uuids, None, clocks)
            for key in sorted(fleets)
        ],
        "hosts": [
            {
                "memory": None,
                **access.describe_host(
                    ctx, host, drift[host.record.uuid], clock=clocks.get(host.record.uuid, "")
                ),
                "outdated": host.record.uuid in outdated_uuids,
                "lease_state": lease_state(host.record, current_time),
            }
            for host in hosts
        ],
        "templates": [access.describe_template(ctx, template) for template in templates],
        "leases": [
            lease_info.describe_lease(ctx, host.record) for host in hosts if host.record.lease
        ],
        "pools": [
            pool_lifecycle.describe(ctx, observation, pool)
            for pool in sorted(observation.pools, key=lambda record: (record.tenant, record.name))
        ],
        "volumes": [
            volume_lifecycle.describe(ctx, volume) for volume in observation.volumes.volumes
        ],
        "strangers": [
            {"name": unreadable_object.name, "reason": unreadable_object.reason}
            for unreadable_object in observation.unreadable
        ],
    }


def memory(snapshot: Snapshot, kind: str) -> float:
    """Return the MiB of guest RAM of all hosts: ``private_mib``, or ``shared_mib`` as each host
    counts it.
    """
    return float(sum(host["memory"][kind] for host in snapshot["hosts"] if host["memory"]))
