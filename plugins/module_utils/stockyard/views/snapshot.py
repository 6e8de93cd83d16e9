# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A yard in one reading: what there is of each kind at one moment, and what it costs.

What shows it (a page, metrics) takes the tables from here. A new kind of object is a new key here
and a table there.
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
    """Look at everything. Changes nothing; asks no mirror. Nothing secret is in it."""
    seen, now = ctx.provider.observe(ctx.owner), ctx.clock.now()
    hosts = sorted(seen.hosts, key=lambda h: (h.record.tenant, h.record.name))
    templates = sorted(
        seen.templates, key=lambda t: (t.record.tenant, t.record.name, t.record.since)
    )
    drift, old = trust.drifts(ctx, hosts), freshness.outdated(seen)
    clocks = guest_status.skewed(hosts, guest_status.statuses(ctx, hosts))
    fleets: dict[tuple[str, str], list[Any]] = {}
    for host in hosts:
        if host.record.fleet:
            fleets.setdefault((host.record.tenant, host.record.fleet), []).append(host)
    return {
        "hypervisor": ctx.provider.uri,
        "owner": ctx.owner,
        "taken": now,
        "fleets": [
            access.describe_fleet(fleets[key], drift, old, None, clocks) for key in sorted(fleets)
        ],
        "hosts": [
            {
                "memory": None,
                **access.describe_host(
                    ctx, host, drift[host.record.uuid], clock=clocks.get(host.record.uuid, "")
                ),
                "outdated": host.record.uuid in old,
                "lease_state": lease_state(host.record, now),
            }
            for host in hosts
        ],
        "templates": [access.describe_template(ctx, template) for template in templates],
        "leases": [
            lease_info.describe_lease(ctx, host.record) for host in hosts if host.record.lease
        ],
        "pools": [
            pool_lifecycle.describe(ctx, seen, pool)
            for pool in sorted(seen.pools, key=lambda p: (p.tenant, p.name))
        ],
        "volumes": [
            volume_lifecycle.describe(ctx, volume)
            for volume in ctx.provider.volumes.observe(ctx.owner).volumes
        ],
        "strangers": [
            {"name": stranger.name, "reason": stranger.reason} for stranger in seen.unreadable
        ],
    }


def memory(found: Snapshot, kind: str) -> float:
    """MiB of guest RAM of all hosts: ``private_mib``, or ``shared_mib`` as each host counts it."""
    return float(sum(host["memory"][kind] for host in found["hosts"] if host["memory"]))
