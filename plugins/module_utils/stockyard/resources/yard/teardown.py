# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deletion of a yard: every observed object, whether it is still declared or not."""

from __future__ import annotations

from ...clock import Deadline
from ...model.fleet import SingleSpec
from ...model.observation import Observation
from ...model.pool import PoolRecord
from ...planning import quota
from ...planning.plan import Plan, gone, plan_deletion
from ...planning.volumes import plan_removal
from ..context import Context
from ..fleets import converge_fleet, single_host
from ..pools import pool_lifecycle
from ..templates import build_template as template_service
from ..volumes import volume_lifecycle as volume_service

REASON = "the yard is being torn down"


def plan(ctx: Context, templates: bool, volumes: bool) -> Plan:
    """Return the plan of :func:`run`. Changes nothing."""
    return _planned(ctx.provider.observe(ctx.owner), templates, volumes)


def run(ctx: Context, templates: bool, volumes: bool, timeout: float) -> Plan:
    """Delete all hosts of the yard, and all templates and volumes if requested. Returns the actions
    that were taken.

    :raises Busy: if another controller works on one of its objects.
    """
    deadline = ctx.deadline(timeout)
    observation = ctx.provider.observe(ctx.owner)
    _remove_hosts(ctx, observation, deadline)
    if templates:
        _remove_templates(ctx, observation, deadline)
    if volumes:
        for volume in observation.volumes.volumes:
            volume_service.delete(ctx, volume.tenant, volume.name, deadline.left())
    if templates:
        # Pools and volumes first: with the last of them, a hypervisor deletes objects that it keeps
        # for this yard alone.
        ctx.provider.prune_images(
            template_service.RECENT,
            frozenset(template.record.image for template in observation.templates),
        )
    return _planned(observation, templates, volumes)


def _remove_hosts(ctx: Context, observation: Observation, deadline: Deadline) -> None:
    fleet_keys = {
        (host.record.tenant, host.record.fleet) for host in observation.hosts if host.record.fleet
    }
    for tenant, fleet in sorted(fleet_keys):
        converge_fleet.remove(ctx, tenant, fleet, deadline.left())
    for host in observation.hosts:
        if not host.record.fleet:
            spec = SingleSpec(host.record.name, tenant=host.record.tenant)
            single_host.converge(ctx, spec, "absent", deadline.left())


def _remove_templates(ctx: Context, observation: Observation, deadline: Deadline) -> None:
    """Delete all templates, then all pools, innermost first."""
    template_keys = {
        (template.record.tenant, template.record.name) for template in observation.templates
    }
    for tenant, name in sorted(template_keys):
        template_service.remove(ctx, tenant, name, deadline.left())
    for pool in reversed(_outermost_first(observation)):
        pool_lifecycle.remove(ctx, pool.tenant, pool.name, deadline.left())


def _outermost_first(observation: Observation) -> list[PoolRecord]:
    return sorted(
        observation.pools,
        key=lambda pool: (
            len(quota.book(observation.pools, ()).chain(pool.tenant, pool.name)),
            pool.name,
        ),
    )


def _planned(observation: Observation, templates: bool, volumes: bool) -> Plan:
    todo = plan_deletion(observation.templates if templates else (), observation.hosts, REASON)
    pools_to_delete = reversed(_outermost_first(observation)) if templates else ()
    pool_actions = (
        gone("pool", pool.name, REASON, {"hosts": pool.spec.hosts}) for pool in pools_to_delete
    )
    volumes_to_delete = observation.volumes.volumes if volumes else ()
    # Hosts that hold a volume are deleted before it.
    return Plan(
        (
            *todo.actions,
            *pool_actions,
            *(
                action
                for volume in volumes_to_delete
                for action in plan_removal(volume, (), REASON).actions
            ),
        )
    )
