# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets and single hosts: made to be as declared."""

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
from ...planning.plan import UNKNOWN_GENERATION, Plan, plan_destroy, synchronizing, unlocking
from ...planning.quota import AdmittedPlan
from ...planning.templates import generations, newest
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
    ctx: Context, spec: FleetSpec, seen: Observation | None = None, generation: str | None = None
) -> Plan:
    """What :func:`converge` would do. Writes nothing, and works when the template does not exist
    yet.

    :param generation: the one that its template will have, where that is not the one of now.
    :raises PoolQuotaExceeded: when its pool has not room for all of it.
    """
    seen = seen or ctx.provider.observe(ctx.owner)
    todo, refused = _planned(ctx, spec, seen, generation)
    _tell(refused)
    host_lifecycle.check_starts(
        ctx, todo, (h for h in seen.hosts if h.record.tenant == spec.tenant)
    )
    if generation is None:
        build_template.tell_missing(
            ctx, f"fleet {spec.name}", spec.tenant, spec.template, todo, seen
        )
    return todo


def _planned(
    ctx: Context, spec: FleetSpec, seen: Observation, generation: str | None = None
) -> tuple[Plan, PoolQuotaExceeded | None]:
    """What is to be done, as far as there is room for it; and what says that there is not room for
    all.

    :raises PoolQuotaExceeded: when there is not, and nothing is to be done then.
    """
    template = newest(generations(spec.tenant, spec.template, seen.templates))
    generation = generation or (template.record.generation if template else UNKNOWN_GENERATION)
    prefix = host_domain(ctx.owner, spec.tenant, "")
    taken = (name.removeprefix(prefix) for name in seen.names if name.startswith(prefix))
    mine = [h for h in seen.hosts if (h.record.tenant, h.record.fleet) == (spec.tenant, spec.name)]
    answers = guest_status.statuses(ctx, mine)
    locked, skewed = encryption.locked(mine, answers), guest_status.skewed(mine, answers)
    judged = [h for h in mine if h.record.name not in locked]
    silent = health.unhealthy(ctx, spec.tenant, judged) if ctx.wait else {}
    wanted = trust.current(ctx, spec.tenant, seen.hosts)
    room = pool_lifecycle.beside(seen, spec.tenant, spec.host, template)
    todo = plan_fleet(spec, generation, seen.hosts, taken, wanted, silent, ctx.clock.now(), room)
    todo = unlocking(todo, locked)
    todo = synchronizing(
        todo, {h.record.name: skewed[h.record.uuid] for h in mine if h.record.uuid in skewed}
    )
    fitted = pool_lifecycle.fit(seen, spec.tenant, spec.host, template, todo, mine)
    refused = _refusal(spec, fitted) if fitted.rejected else None
    if spec.on_full == "refuse":
        _tell(refused)
    admit(ctx, spec.tenant, spec.host, fitted.plan, seen, template)
    declared.validate_plan(ctx, spec.tenant, spec.template, spec.host, fitted.plan, seen)
    return fitted.plan, refused


def _refusal(spec: FleetSpec, fitted: AdmittedPlan) -> PoolQuotaExceeded:
    rest = (
        "Nothing is changed."
        if spec.on_full == "refuse"
        else "All else is as declared, or will be."
    )
    return pool_lifecycle.refusal(f"fleet {spec.name}", fitted, rest)


def _tell(refused: PoolQuotaExceeded | None) -> None:
    if refused:
        raise refused


def converge(ctx: Context, spec: FleetSpec, timeout: float) -> Plan:
    """Make a fleet as it is declared. Returns what was done.

    :param timeout: seconds for everything.
    :raises Busy: when another controller is at work on it.
    :raises PoolQuotaExceeded: when its pool has not room for all of it, before or after the rest is
        made (``on_full``).
    """
    deadline = ctx.deadline(timeout)
    with _held(ctx, spec.tenant, spec.name, deadline):
        seen = ctx.provider.observe(ctx.owner)
        template = build_template.need(spec.tenant, spec.template, seen) if spec.least else None
        todo, refused = _planned(ctx, spec, seen)
        if spec.least:
            trust.prepare(ctx, spec.tenant, seen.hosts)
        try:
            Rollout(ctx, spec, template, deadline).apply(todo, seen.hosts)
        finally:
            # Where some failed, the others can be used.
            access.sync_known_hosts(ctx, spec.tenant)
        if spec.host.egress == "proxy":
            egress.mend(ctx, members(ctx, spec.tenant, spec.name), deadline)
        _tell(refused)
        return todo


def plan_removal(ctx: Context, tenant: str, name: str, reason: str = ABSENT) -> Plan:
    """What :func:`remove` would do."""
    return plan_destroy((), going(members(ctx, tenant, name), reason, ctx.clock.now()), reason)


def remove(ctx: Context, tenant: str, name: str, timeout: float, reason: str = ABSENT) -> Plan:
    """Take the hosts of a fleet away.

    :param reason: where it is not that the fleet is to be absent, leased hosts stay until their
        leases end.
    """
    deadline = ctx.deadline(timeout)
    with _held(ctx, tenant, name, deadline):
        mine = going(members(ctx, tenant, name), reason, ctx.clock.now())
        each(ctx, [partial(host_lifecycle.destroy, ctx, h.record) for h in mine])
        access.sync_known_hosts(ctx, tenant)
        return plan_destroy((), mine, reason)


def going(found: Iterable[Host], reason: str, now: float) -> list[Host]:
    """Those hosts of a fleet which go for this reason. Who has one loses it only to somebody who
    says so.
    """
    return [h for h in found if reason == ABSENT or not lease_policy.is_held(h.record, now)]


def members(ctx: Context, tenant: str, name: str) -> list[Host]:
    """The hosts of a fleet, half-made ones included."""
    return [
        h
        for h in ctx.provider.observe(ctx.owner).hosts
        if (h.record.tenant, h.record.fleet) == (tenant, name)
    ]


def _held(ctx: Context, tenant: str, name: str, deadline: Deadline) -> AbstractContextManager[None]:
    return ctx.provider.exclusive(ctx.lock_name("fleet", tenant, name), deadline.within(LOCK_WAIT))
