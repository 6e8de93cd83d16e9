# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools: declared, changed while hosts run, taken away; and whether a plan has room in its pool."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from ...errors import OperationRefused, PoolQuotaExceeded
from ...model import codec
from ...model.host import Host, HostRecord, HostSpec
from ...model.observation import Observation, Template
from ...model.pool import LIMITS, PoolRecord, PoolSpec
from ...model.size import Size
from ...model.template import TemplateRecord
from ...planning import memory_pressure, quota, resize
from ...planning.memory_pressure import Held
from ...planning.plan import Action, Plan, gone
from ...planning.quota import AdmittedPlan, PoolUsage
from ..context import Context

LOCK_WAIT = 5.0
ABSENT = "it is to be absent"


def plan(
    ctx: Context, spec: PoolSpec, *, force: bool = False, seen: Observation | None = None
) -> Plan:
    """What :func:`ensure` would do. Writes nothing.

    :raises Refused: when it would be refused.
    """
    seen = seen or ctx.provider.observe(ctx.owner)
    there = find(seen, spec.tenant, spec.name)
    if there and there.spec == spec:
        return Plan()
    if there and there.spec.parent != spec.parent:
        raise OperationRefused(
            f"it is in {there.spec.parent or 'no pool'}, and cannot be moved.",
            name=there.title,
            remedy="make another pool, and let its fleets go there",
        )
    quota.check_change(
        changed(ctx, spec, seen), seen.pools, (h.record for h in seen.hosts), force=force
    )
    after = codec.to_dict(spec)
    if there is None:
        return Plan((Action("create", "pool", spec.name, "there is none", {}, after),))
    before = codec.to_dict(there.spec)
    differs = ", ".join(sorted(k for k in after if after[k] != before[k]))
    return Plan((Action("change", "pool", spec.name, f"{differs} changed", before, after),))


def ensure(ctx: Context, spec: PoolSpec, timeout: float, *, force: bool = False) -> Plan:
    """Have a pool as declared. Hosts in it run on.

    :param force: let it be smaller than what is in it: then nothing new is let in.
    """
    with ctx.provider.exclusive(
        ctx.lock_name("pool", spec.tenant, spec.name), ctx.deadline(min(timeout, LOCK_WAIT))
    ):
        seen = ctx.provider.observe(ctx.owner)
        todo = plan(ctx, spec, force=force, seen=seen)
        for action in todo.actions:
            ctx.provider.pools.put(changed(ctx, spec, seen), force=force)
            ctx.progress(f"pool {spec.name}: {action.verb}d")
        return todo


def plan_removal(ctx: Context, tenant: str, name: str, reason: str = ABSENT) -> Plan:
    """What :func:`remove` would do.

    :raises Refused: when something is in it.
    """
    seen = ctx.provider.observe(ctx.owner)
    there = find(seen, tenant, name)
    if there is None:
        return Plan()
    quota.check_removal(there, seen.pools, [h.record for h in seen.hosts])
    return Plan((gone("pool", name, reason, codec.to_dict(there.spec)),))


def remove(ctx: Context, tenant: str, name: str, timeout: float, reason: str = ABSENT) -> Plan:
    """Take a pool away that nothing is in."""
    with ctx.provider.exclusive(
        ctx.lock_name("pool", tenant, name), ctx.deadline(min(timeout, LOCK_WAIT))
    ):
        todo = plan_removal(ctx, tenant, name, reason)
        there = find(ctx.provider.observe(ctx.owner), tenant, name)
        if todo and there:
            ctx.provider.pools.delete(there)
            ctx.progress(f"{there.title}: destroyed")
        return todo


def find(seen: Observation, tenant: str, name: str) -> PoolRecord | None:
    """A pool on record."""
    return next((p for p in seen.pools if (p.tenant, p.name) == (tenant, name)), None)


def book(seen: Observation) -> PoolUsage:
    """What there is, and who takes how much of it."""
    return quota.book(seen.pools, (h.record for h in seen.hosts))


def size_of(spec: HostSpec, template: TemplateRecord | None) -> Size:
    """The nominal size of a new host. Of a template that is not there yet nothing is known."""
    return resize.wanted(spec, frozen(template)) if template else Size(spec.vcpus, spec.memory_mib)


def frozen(template: TemplateRecord) -> Size:
    """What a template was frozen with."""
    return Size(template.hardware.vcpus, template.hardware.memory_mib, template.disk_gib)


def most(ctx: Context, template: TemplateRecord) -> Size:
    """What can be plugged into its forks."""
    resizes = ctx.provider.capabilities.resizes
    return Size(template.hardware.max_vcpus, template.max_memory_mib) if resizes else Size()


def beside(seen: Observation, tenant: str, spec: HostSpec, template: Template | None) -> int | None:
    """How many hosts more there can be; ``None`` where no pool limits that.

    :raises NotFound: when the pool is not there.
    """
    return (
        book(seen).room(tenant, spec.pool, size_of(spec, template.record if template else None))
        if spec.pool
        else None
    )


def fit(
    seen: Observation,
    tenant: str,
    spec: HostSpec,
    template: Template | None,
    todo: Plan,
    mine: Iterable[Host],
) -> AdmittedPlan:
    """A plan as far as its pool has room for it."""
    members = [h.record for h in mine]
    return quota.fit(
        todo,
        book(seen),
        tenant,
        spec.pool,
        size_of(spec, template.record if template else None),
        members,
    )


def refusal(name: str, fitted: AdmittedPlan, rest: str) -> PoolQuotaExceeded:
    """The error that says what there is no room for.

    :param rest: what became of all else, in words.
    """
    out = [f"{a.kind} {a.name}" for a in fitted.rejected]
    shown = ", ".join(out[:10]) + (f" and {len(out) - 10} more" if len(out) > 10 else "")
    return PoolQuotaExceeded(
        f"its pool has no room for {len(out)} host{'s' * (len(out) != 1)} ({shown}). {rest}",
        name=name,
        cause=fitted.reason,
        remedy="grow the pool, or take hosts out of it away",
    )


def describe(ctx: Context, seen: Observation, record: PoolRecord) -> dict[str, Any]:
    """A pool as modules return it."""
    found, spec = book(seen), record.spec
    inside = _inside(found, record, seen)
    held, facts = _held(ctx, inside), ctx.provider.pools.facts(record)
    used, over = found.use(record), quota.overfull(found, record)
    return {
        **codec.to_dict(spec),
        "uuid": record.uuid,
        "owner": record.owner,
        "created": record.created,
        "version": record.version,
        "used": dict(used),
        "free": {n: max(0, spec.limit(n) - used[n]) if spec.limit(n) else None for n in LIMITS},
        "members": sorted(h.record.name for h in inside),
        "pools": sorted(p.name for p in found.inside(record)),
        "held": {"private_mib": memory_pressure.private(held), "hosts": [asdict(h) for h in held]}
        if held
        else None,
        "first_to_go": memory_pressure.first_to_go(held),
        "warnings": ([f"{over}: nothing new is let in"] if over else [])
        + memory_pressure.warnings(record, held, facts.get("available_mib")),
        **facts,
    }


def changed(ctx: Context, spec: PoolSpec, seen: Observation) -> PoolRecord:
    """A pool's record as it is to be."""
    there = find(seen, spec.tenant, spec.name)
    if there:
        return replace(there, spec=spec)
    return PoolRecord(ctx.owner, str(uuid.uuid4()), spec, ctx.clock.now())


def _inside(found: PoolUsage, pool: PoolRecord, seen: Observation) -> list[Host]:
    """The hosts in a pool and in all that are in it."""
    return [h for h in seen.hosts if pool in found.around(h.record)]


def _held(ctx: Context, hosts: Iterable[Host]) -> list[Held]:
    """What running hosts hold, where the hypervisor says so."""
    found = []
    for host in (h for h in hosts if h.state == "running"):
        memory = ctx.provider.facts(host.record).get("memory")
        if memory:
            found.append(_of(host.record, memory))
    return found


def _of(record: HostRecord, memory: dict[str, Any]) -> Held:
    own, shared = float(memory["private_mib"]), float(memory["shared_mib"])
    return Held(record.name, record.size.memory_mib, own, shared, int(memory.get("oom_score", 0)))
