# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deletion of a yard: every observed object, whether it is still declared or not."""

from __future__ import annotations

from dataclasses import dataclass

from ...clock import Deadline
from ...model.fleet import SingleSpec
from ...model.observation import Observation
from ...model.pool import PoolRecord
from ...planning import quota
from ...planning.plan import Plan, delete_action, plan_deletion
from ...planning.volumes import plan_removal
from ..context import Context
from ..fleets.converge_fleet import FleetDeletion
from ..fleets.single_host import SingleHostConvergence
from ..pools.pool_lifecycle import PoolDeletion
from ..templates.build_template import RECENT, TemplateDeletion
from ..volumes.volume_lifecycle import VolumeDeletion

REASON = "the yard is being torn down"


@dataclass(frozen=True)
class YardDeletion:
    """The deletion of all hosts of a yard, and of all templates and volumes if requested."""

    ctx: Context
    templates: bool = False
    volumes: bool = False

    def plan(self) -> Plan:
        """Return the actions that :meth:`apply` would take now. Changes nothing."""
        return self._plan_from(self.ctx.provider.observe(self.ctx.owner))

    def apply(self, deadline: Deadline) -> Plan:
        """Delete the objects; return the actions that were taken.

        :raises Busy: if another controller works on one of them.
        """
        ctx, observation = self.ctx, self.ctx.provider.observe(self.ctx.owner)
        _remove_hosts(ctx, observation, deadline)
        if self.templates:
            _remove_templates(ctx, observation, deadline)
        if self.volumes:
            for volume in observation.volumes.volumes:
                VolumeDeletion(ctx, volume.tenant, volume.name).apply(deadline)
        if self.templates:
            # Pools and volumes first: with the last of them, a hypervisor deletes objects that it
            # keeps for this yard alone.
            images = frozenset(template.record.image for template in observation.templates)
            ctx.provider.prune_images(RECENT, images)
        return self._plan_from(observation)

    def _plan_from(self, observation: Observation) -> Plan:
        templates = observation.templates if self.templates else ()
        pools = reversed(_outermost_first(observation)) if self.templates else ()
        volumes = observation.volumes.volumes if self.volumes else ()
        actions = [*plan_deletion(templates, observation.hosts, REASON).actions]
        actions += [
            delete_action("pool", pool.name, REASON, {"hosts": pool.spec.hosts}) for pool in pools
        ]
        # Hosts that hold a volume are deleted before it.
        for volume in volumes:
            actions += plan_removal(volume, (), REASON).actions
        return Plan(tuple(actions))


def _remove_hosts(ctx: Context, observation: Observation, deadline: Deadline) -> None:
    fleet_keys = {
        (host.record.tenant, host.record.fleet) for host in observation.hosts if host.record.fleet
    }
    for tenant, fleet in sorted(fleet_keys):
        FleetDeletion(ctx, tenant, fleet).apply(deadline)
    for host in observation.hosts:
        if not host.record.fleet:
            spec = SingleSpec(host.record.name, tenant=host.record.tenant)
            SingleHostConvergence(ctx, spec, "absent").apply(deadline)


def _remove_templates(ctx: Context, observation: Observation, deadline: Deadline) -> None:
    """Delete all templates, then all pools, innermost first."""
    template_keys = {
        (template.record.tenant, template.record.name) for template in observation.templates
    }
    for tenant, name in sorted(template_keys):
        TemplateDeletion(ctx, tenant, name).apply(deadline)
    for pool in reversed(_outermost_first(observation)):
        PoolDeletion(ctx, pool.tenant, pool.name).apply(deadline)


def _outermost_first(observation: Observation) -> list[PoolRecord]:
    return sorted(
        observation.pools,
        key=lambda pool: (
            len(quota.book(observation.pools, ()).chain(pool.tenant, pool.name)),
            pool.name,
        ),
    )
