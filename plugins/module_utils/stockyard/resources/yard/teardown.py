# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking a yard away: everything that is observed, whether anyone still declares it or not."""

from __future__ import annotations

from ...clock import Deadline
from ...model.fleet import SingleSpec
from ...model.observation import Observation
from ...model.pool import PoolRecord
from ...planning import quota
from ...planning.plan import Plan, gone, plan_destroy
from ...planning.volumes import plan_removal
from ..context import Context
from ..fleets import converge_fleet, single_host
from ..pools import pool_lifecycle
from ..templates import build_template as template_service
from ..volumes import volume_lifecycle as volume_service

REASON = "the yard is taken away"


def plan(ctx: Context, templates: bool, volumes: bool) -> Plan:
    """What :func:`run` would do. Writes nothing."""
    return _planned(ctx, ctx.provider.observe(ctx.owner), templates, volumes)


def run(ctx: Context, templates: bool, volumes: bool, timeout: float) -> Plan:
    """Take all hosts of the yard away, and all templates and volumes when asked. Returns what was
    done.

    :raises Busy: when another controller is at work on one of its objects.
    """
    deadline = ctx.deadline(timeout)
    seen = ctx.provider.observe(ctx.owner)
    for tenant, fleet in sorted(
        {(h.record.tenant, h.record.fleet) for h in seen.hosts if h.record.fleet}
    ):
        converge_fleet.remove(ctx, tenant, fleet, deadline.left())
    for host in seen.hosts:
        if not host.record.fleet:
            spec = SingleSpec(host.record.name, tenant=host.record.tenant)
            single_host.converge(ctx, spec, "absent", deadline.left())
    for tenant, name in sorted(
        {(t.record.tenant, t.record.name) for t in seen.templates if templates}
    ):
        template_service.remove(ctx, tenant, name, deadline.left())
    if templates:
        _remove_pools(ctx, deadline)
    todo = _planned(ctx, seen, templates, volumes)
    for volume in ctx.provider.volumes.observe(ctx.owner).volumes if volumes else ():
        volume_service.delete(ctx, volume.tenant, volume.name, deadline.left())
    if templates:
        # Pools and volumes first: with the last of them goes what a hypervisor keeps for the yard's
        # sake alone.
        ctx.provider.prune_images(
            template_service.RECENT, frozenset(t.record.image for t in seen.templates)
        )
    return todo


def _remove_pools(ctx: Context, deadline: Deadline) -> None:
    """The innermost first."""
    for pool in reversed(_outermost_first(ctx.provider.observe(ctx.owner))):
        pool_lifecycle.remove(ctx, pool.tenant, pool.name, deadline.left())


def _outermost_first(seen: Observation) -> list[PoolRecord]:
    return sorted(
        seen.pools, key=lambda p: (len(quota.book(seen.pools, ()).chain(p.tenant, p.name)), p.name)
    )


def _planned(ctx: Context, seen: Observation, templates: bool, volumes: bool) -> Plan:
    todo = plan_destroy(seen.templates if templates else (), seen.hosts, REASON)
    going = reversed(_outermost_first(seen)) if templates else ()
    bounds = (gone("pool", p.name, REASON, {"hosts": p.spec.hosts}) for p in going)
    found = ctx.provider.volumes.observe(ctx.owner).volumes if volumes else ()
    # Whoever has one of them goes before.
    return Plan(
        (*todo.actions, *bounds, *(a for v in found for a in plan_removal(v, (), REASON).actions))
    )
