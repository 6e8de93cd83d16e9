# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot of a yard: all objects of each kind at one moment, with their costs.

The page and the metrics take their tables from the snapshot. A new kind of object needs a new field
here and a table in each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..model.fleet_info import FleetInfo
from ..model.host import Host
from ..model.host_info import HostInfo
from ..model.lease_info import LeaseInfo
from ..model.observation import UnreadableObject
from ..model.pool_info import PoolInfo
from ..model.template_info import TemplateInfo
from ..model.volume_info import VolumeInfo
from ..resources import guest_status
from ..resources.context import Context
from ..resources.hosts import access, trust
from ..resources.leases import lease_info
from ..resources.pools import pool_lifecycle
from ..resources.templates import freshness
from ..resources.volumes import volume_lifecycle
from .inventory import lease_state


@dataclass(frozen=True)
class ReportedHost:
    """A host in a snapshot.

    :param info: its public facts.
    :param outdated: whether it is of another generation than the current one.
    :param lease_state: ``held``, ``over``, ``free`` to be leased, or of no fleet (``none``).
    """

    info: HostInfo
    outdated: bool
    lease_state: str


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All objects of a yard at one moment.

    :param hypervisor: the URI of the hypervisor.
    :param owner: the owner of the yard.
    :param moment: the time of the observation, in seconds since the epoch.
    :param strangers: unreadable objects with the marker of the owner.
    """

    hypervisor: str
    owner: str
    moment: float
    fleets: tuple[FleetInfo, ...] = ()
    hosts: tuple[ReportedHost, ...] = ()
    templates: tuple[TemplateInfo, ...] = ()
    leases: tuple[LeaseInfo, ...] = ()
    pools: tuple[PoolInfo, ...] = ()
    volumes: tuple[VolumeInfo, ...] = ()
    strangers: tuple[UnreadableObject, ...] = ()

    @property
    def figures(self) -> dict[str, int]:
        """Return the number of objects of each kind."""
        return {
            "fleets": len(self.fleets),
            "hosts": len(self.hosts),
            "templates": len(self.templates),
            "leases": len(self.leases),
            "pools": len(self.pools),
            "volumes": len(self.volumes),
            "strangers": len(self.strangers),
        }

    @property
    def private_mib(self) -> float:
        """Return the private memory of all hosts in MiB."""
        return sum(host.info.memory.private_mib for host in self.hosts if host.info.memory)

    @property
    def shared_mib(self) -> float:
        """Return the shared memory of all hosts in MiB, as each host counts it."""
        return sum(host.info.memory.shared_mib for host in self.hosts if host.info.memory)


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
    pools = sorted(observation.pools, key=lambda record: (record.tenant, record.name))
    volumes = observation.volumes.volumes
    drift, outdated_uuids = trust.drifts(ctx, hosts), freshness.outdated(observation)
    clocks = guest_status.skewed(hosts, guest_status.statuses(ctx, hosts))
    fleets: dict[tuple[str, str], list[Host]] = {}
    for host in hosts:
        if host.record.fleet:
            fleets.setdefault((host.record.tenant, host.record.fleet), []).append(host)
    return Snapshot(
        hypervisor=ctx.provider.uri,
        owner=ctx.owner,
        moment=current_time,
        fleets=tuple(
            access.describe_fleet(fleets[key], drift, outdated_uuids, None, clocks)
            for key in sorted(fleets)
        ),
        hosts=tuple(
            ReportedHost(
                access.describe_host(
                    ctx, host, drift[host.record.uuid], clock=clocks.get(host.record.uuid, "")
                ),
                outdated=host.record.uuid in outdated_uuids,
                lease_state=lease_state(host.record, current_time),
            )
            for host in hosts
        ),
        templates=tuple(access.describe_template(ctx, template) for template in templates),
        leases=tuple(
            lease_info.describe_lease(ctx, host.record, host.record.lease)
            for host in hosts
            if host.record.lease
        ),
        pools=tuple(pool_lifecycle.describe(ctx, observation, pool) for pool in pools),
        volumes=tuple(volume_lifecycle.describe(ctx, volume) for volume in volumes),
        strangers=observation.unreadable,
    )
