# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pools of a declared yard: those that grow before its fleets do, those that shrink after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ...errors import OperationRefused
from ...model import codec
from ...model.host import Host
from ...model.observation import Observation
from ...model.pool import LIMITS, PoolRecord
from ...planning.declaration import ABSENT, Declaration, PoolTerm
from ...planning.plan import Action, Plan, gone
from ..context import Context
from ..pools import pool_lifecycle


def planned(
    ctx: Context, declared: Declaration, seen: Observation
) -> tuple[list[Action], Observation]:
    """What is done first, and what is observed as if it were done."""
    actions: list[Action] = []
    for term in _early(declared, seen):
        todo = pool_lifecycle.plan(ctx, term.spec, seen=seen)
        if todo:
            seen = replace(seen, pools=_with(seen, pool_lifecycle.changed(ctx, term.spec, seen)))
        actions += todo.actions
    return actions, seen


def planned_last(
    ctx: Context, declared: Declaration, seen: Observation, left: Iterable[Host]
) -> list[Action]:
    """What is done last: pools that shrink, and pools that go.

    :param left: the hosts that stay.
    """
    seen, actions = replace(seen, hosts=tuple(left)), list[Action]()
    for term in _late(declared, seen):
        actions += pool_lifecycle.plan(ctx, term.spec, force=term.force, seen=seen).actions
    there = {(p.tenant, p.name): p for p in seen.pools}
    going = {} if seen.unreadable else declared.pools_to_go(seen.pools)
    free = [key for key in going if not _used(there[key], seen, {*going})]
    return actions + [
        gone("pool", key[1], going[key], codec.to_dict(there[key].spec)) for key in free
    ]


def early(ctx: Context, declared: Declaration) -> list[PoolTerm]:
    """The pools that are made, or grow."""
    return _early(declared, ctx.provider.observe(ctx.owner)) if declared.pools else []


def late(ctx: Context, declared: Declaration) -> list[PoolTerm]:
    """The pools that shrink: fleets may make room for that first."""
    return _late(declared, ctx.provider.observe(ctx.owner)) if declared.pools else []


def shrink(ctx: Context, term: PoolTerm) -> Plan:
    """Make a pool smaller."""
    return pool_lifecycle.ensure(ctx, term.spec, term.timeout, force=term.force)


def remove(ctx: Context, declared: Declaration) -> Plan:
    """Take away the pools that are to go and that nothing is in, the innermost first.

    :raises Refused: when something is in one that is declared absent.
    """
    actions: list[Action] = []
    while True:
        seen = ctx.provider.observe(ctx.owner)
        going = {} if seen.unreadable else declared.pools_to_go(seen.pools)
        there = {(p.tenant, p.name): p for p in seen.pools}
        free = [key for key in going if not _used(there[key], seen, set())]
        for tenant, name in free:
            actions += pool_lifecycle.remove(
                ctx, tenant, name, PoolTerm.timeout, going[tenant, name]
            ).actions
        if not free:
            _explain(ctx, going)
            return Plan(tuple(actions))


def _explain(ctx: Context, going: dict[tuple[str, str], str]) -> None:
    for (_tenant, name), reason in going.items():
        if reason == ABSENT:
            raise OperationRefused(
                "something is in it.",
                name=f"pool {name}",
                remedy="take away its hosts and pools first",
            )
        ctx.progress(f"pool {name}: {reason}, and stays: something is in it")


def _early(declared: Declaration, seen: Observation) -> list[PoolTerm]:
    return [t for t in declared.outermost_first if not _shrinks(t, seen)]


def _late(declared: Declaration, seen: Observation) -> list[PoolTerm]:
    return [t for t in declared.outermost_first if _shrinks(t, seen)]


def _shrinks(term: PoolTerm, seen: Observation) -> bool:
    """Whether any limit gets tighter."""
    there = pool_lifecycle.find(seen, term.spec.tenant, term.spec.name)
    if there is None:
        return False
    limits = ((there.spec.limit(name), term.spec.limit(name)) for name in LIMITS)
    return any(new and (not old or new < old) for old, new in limits)


def _with(seen: Observation, record: PoolRecord) -> tuple[PoolRecord, ...]:
    others = (p for p in seen.pools if (p.tenant, p.name) != (record.tenant, record.name))
    return (*others, record)


def _used(pool: PoolRecord, seen: Observation, going: set[tuple[str, str]]) -> bool:
    """Whether something is in a pool that stays."""
    hosts = any(
        (h.record.tenant, h.record.spec.pool) == (pool.tenant, pool.name) for h in seen.hosts
    )
    inside = [
        (p.tenant, p.name)
        for p in seen.pools
        if (p.tenant, p.spec.parent) == (pool.tenant, pool.name)
    ]
    return hosts or any(key not in going for key in inside)
