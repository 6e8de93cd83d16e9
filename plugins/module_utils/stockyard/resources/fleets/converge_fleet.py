# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets: converged to their declarations, and deleted."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import partial

from ...clock import Deadline
from ...errors import PoolQuotaExceeded
from ...model.fleet import FleetSpec
from ...model.host import Host, host_domain
from ...model.observation import Observation
from ...planning import lease_policy
from ...planning.declaration import ABSENT
from ...planning.fleets import plan_fleet
from ...planning.plan import UNKNOWN_GENERATION, Plan, plan_deletion, synchronizing, unlocking
from ...planning.quota import AdmittedPlan
from .. import guest_status
from ..context import Context
from ..hosts import access, egress, health, host_lifecycle, trust
from ..pools import pool_lifecycle
from ..templates import build_template
from ..volumes import declared, encryption
from .preflight import admit
from .rollout import Rollout, each

LOCK_WAIT = 5.0


def plan(
    ctx: Context,
    spec: FleetSpec,
    observation: Observation | None = None,
    generation: str | None = None,
) -> Plan:
    """Return the plan of :func:`converge`. Changes nothing, and works if the template does not
    exist yet.

    :param generation: the generation that its template will have, if it differs from the current
        one.
    :raises PoolQuotaExceeded: if its pool cannot hold the whole fleet.
    """
    observation = observation or ctx.provider.observe(ctx.owner)
    todo, refusal = _planned(ctx, spec, observation, generation)
    _tell(refusal)
    host_lifecycle.check_starts(ctx, todo, observation.of_tenant(spec.tenant))
    if generation is None:
        build_template.tell_missing(
            ctx, f"fleet {spec.name}", spec.tenant, spec.template, todo, observation
        )
    return todo


def _planned(
    ctx: Context, spec: FleetSpec, observation: Observation, generation: str | None = None
) -> tuple[Plan, PoolQuotaExceeded | None]:
    """Return the plan as far as the pool has capacity, and an error if it lacks capacity for the
    rest.

    :raises PoolQuotaExceeded: if capacity is lacking and the declaration refuses a partial plan.
    """
    template = observation.template(spec.tenant, spec.template)
    generation = generation or (template.record.generation if template else UNKNOWN_GENERATION)
    prefix = host_domain(ctx.owner, spec.tenant, "")
    used_names = (
        name.removeprefix(prefix) for name in observation.names if name.startswith(prefix)
    )
    own_hosts = observation.members(spec.tenant, spec.name)
    statuses = guest_status.statuses(ctx, own_hosts)
    locked_hosts, skewed_hosts = (
        encryption.locked(own_hosts, statuses),
        guest_status.skewed(own_hosts, statuses),
    )
    probed_hosts = [host for host in own_hosts if host.record.name not in locked_hosts]
    unhealthy_reasons = health.unhealthy(ctx, spec.tenant, probed_hosts) if ctx.wait else {}
    current_trust = trust.current(ctx, spec.tenant, observation.hosts)
    capacity = pool_lifecycle.beside(observation, spec.tenant, spec.host, template)
    todo = plan_fleet(
        spec,
        generation,
        observation.hosts,
        used_names,
        current_trust,
        unhealthy_reasons,
        ctx.clock.now(),
        capacity,
    )
    todo = unlocking(todo, locked_hosts)
    todo = synchronizing(
        todo,
        {
            host.record.name: skewed_hosts[host.record.uuid]
            for host in own_hosts
            if host.record.uuid in skewed_hosts
        },
    )
    admitted = pool_lifecycle.fit(observation, spec.tenant, spec.host, template, todo, own_hosts)
    refusal = _refusal(spec, admitted) if admitted.rejected else None
    if spec.on_full == "refuse":
        _tell(refusal)
    admit(ctx, spec.tenant, spec.host, admitted.plan, observation, template)
    declared.validate_plan(ctx, spec.tenant, spec.template, spec.host, admitted.plan, observation)
    return admitted.plan, refusal


def _refusal(spec: FleetSpec, admitted: AdmittedPlan) -> PoolQuotaExceeded:
    outcome = (
        "Nothing was changed."
        if spec.on_full == "refuse"
        else "The other hosts are, or will be, as declared."
    )
    return pool_lifecycle.refusal(f"fleet {spec.name}", admitted, outcome)


def _tell(refusal: PoolQuotaExceeded | None) -> None:
    if refusal:
        raise refusal


def converge(ctx: Context, spec: FleetSpec, timeout: float) -> Plan:
    """Converge a fleet to its declaration. Returns the actions that were taken.

    :param timeout: seconds for everything.
    :raises Busy: if another controller works on the fleet.
    :raises PoolQuotaExceeded: if its pool cannot hold the whole fleet, before or after the other
        hosts are created (``on_full``).
    """
    deadline = ctx.deadline(timeout)
    with _held(ctx, spec.tenant, spec.name, deadline):
        observation = ctx.provider.observe(ctx.owner)
        template = (
            build_template.need(spec.tenant, spec.template, observation) if spec.least else None
        )
        todo, refusal = _planned(ctx, spec, observation)
        if spec.least:
            trust.prepare(ctx, spec.tenant, observation.hosts)
        try:
            members = observation.members(spec.tenant, spec.name)
            Rollout(ctx, spec, template, deadline).apply(todo, members)
        finally:
            # If some hosts failed, users can still use the remaining ones.
            observation = access.sync_known_hosts(ctx, spec.tenant)
        if spec.host.egress == "proxy":
            egress.mend(ctx, observation.members(spec.tenant, spec.name), deadline)
        _tell(refusal)
        return todo


def plan_removal(ctx: Context, tenant: str, name: str, reason: str = ABSENT) -> Plan:
    """Return the plan of :func:`remove`."""
    members = ctx.provider.observe(ctx.owner).members(tenant, name)
    return plan_deletion((), going(members, reason, ctx.clock.now()), reason)


def remove(ctx: Context, tenant: str, name: str, timeout: float, reason: str = ABSENT) -> Plan:
    """Delete the hosts of a fleet.

    :param reason: for any reason except the declared absence of the fleet, leased hosts remain
        until their leases end.
    """
    deadline = ctx.deadline(timeout)
    with _held(ctx, tenant, name, deadline):
        members = ctx.provider.observe(ctx.owner).members(tenant, name)
        own_hosts = going(members, reason, ctx.clock.now())
        each(ctx, [partial(host_lifecycle.destroy, ctx, host.record) for host in own_hosts])
        access.sync_known_hosts(ctx, tenant)
        return plan_deletion((), own_hosts, reason)


def going(hosts: Iterable[Host], reason: str, current_time: float) -> list[Host]:
    """Return the hosts to delete for a reason. Leased hosts are included only if the fleet is
    declared absent.
    """
    return [
        host
        for host in hosts
        if reason == ABSENT or not lease_policy.is_held(host.record, current_time)
    ]


def _held(ctx: Context, tenant: str, name: str, deadline: Deadline) -> AbstractContextManager[None]:
    return ctx.provider.exclusive(ctx.lock_name("fleet", tenant, name), deadline.within(LOCK_WAIT))
