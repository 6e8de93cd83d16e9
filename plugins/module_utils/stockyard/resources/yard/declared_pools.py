# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pools of a declared yard: pools that grow before its fleets do, pools that shrink
after them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ...clock import Deadline
from ...errors import OperationRefused
from ...model import codec
from ...model.host import Host
from ...model.observation import Observation
from ...model.pool import LIMITS, PoolRecord
from ...planning.declaration import ABSENT, Declaration, PoolTerm
from ...planning.plan import Action, Plan, delete_action
from ..context import Context
from ..pools.pool_lifecycle import PoolConvergence, PoolDeletion


def planned(
    ctx: Context, declaration: Declaration, observation: Observation
) -> tuple[list[Action], Observation]:
    """Return the first actions on pools, and the observation as if these were complete."""
    actions: list[Action] = []
    for term in early(declaration, observation):
        convergence = PoolConvergence(ctx, term.spec)
        todo = convergence.plan_from(observation)
        if todo:
            observation = replace(
                observation,
                pools=_with(observation, convergence.record(observation)),
            )
        actions += todo.actions
    return actions, observation


def planned_last(
    ctx: Context,
    declaration: Declaration,
    observation: Observation,
    remaining_hosts: Iterable[Host],
) -> list[Action]:
    """Return the last actions on pools: those that shrink, and those that are deleted.

    :param remaining_hosts: the hosts that remain.
    """
    observation, actions = replace(observation, hosts=tuple(remaining_hosts)), list[Action]()
    for term in late(declaration, observation):
        actions += PoolConvergence(ctx, term.spec, term.force).plan_from(observation).actions
    pools = {(pool.tenant, pool.name): pool for pool in observation.pools}
    reasons = {} if observation.unreadable else declaration.pools_to_go(observation.pools)
    unused_keys = [key for key in reasons if not _is_used(pools[key], observation, {*reasons})]
    return actions + [
        delete_action("pool", key[1], reasons[key], codec.to_dict(pools[key].spec))
        for key in unused_keys
    ]


def remove(
    ctx: Context, declaration: Declaration, observation: Observation, deadline: Deadline
) -> Plan:
    """Delete the pools that are declared absent or not declared, if they are empty, innermost
    first.

    :param observation: made after the deletion of fleets.
    :raises OperationRefused: if a pool that is declared absent is not empty.
    """
    actions: list[Action] = []
    reasons = {} if observation.unreadable else declaration.pools_to_go(observation.pools)
    while unused_pools := [
        pool
        for pool in observation.pools
        if (pool.tenant, pool.name) in reasons and not _is_used(pool, observation, set())
    ]:
        for pool in unused_pools:
            reason = reasons.pop((pool.tenant, pool.name))
            deletion = PoolDeletion(ctx, pool.tenant, pool.name, reason)
            actions += deletion.apply(deadline).actions
        remaining_pools = (pool for pool in observation.pools if pool not in unused_pools)
        observation = replace(observation, pools=tuple(remaining_pools))
    _explain(ctx, reasons)
    return Plan(tuple(actions))


def _explain(ctx: Context, reasons: dict[tuple[str, str], str]) -> None:
    for (_tenant, name), reason in reasons.items():
        if reason == ABSENT:
            raise OperationRefused(
                "the pool is not empty.",
                name=f"pool {name}",
                remedy="delete its hosts and pools first",
            )
        ctx.progress(f"pool {name}: {reason}; retained, because it is not empty")


def early(declaration: Declaration, observation: Observation) -> list[PoolTerm]:
    """Return the pools to create or grow."""
    return [term for term in declaration.outermost_first if not _shrinks(term, observation)]


def late(declaration: Declaration, observation: Observation) -> list[PoolTerm]:
    """Return the pools to shrink: fleets may first free capacity for that."""
    return [term for term in declaration.outermost_first if _shrinks(term, observation)]


def _shrinks(term: PoolTerm, observation: Observation) -> bool:
    """Return whether any limit becomes tighter."""
    existing = observation.pool(term.spec.tenant, term.spec.name)
    if existing is None:
        return False
    limits = ((existing.spec.limit(name), term.spec.limit(name)) for name in LIMITS)
    return any(
        new_limit and (not old_limit or new_limit < old_limit) for old_limit, new_limit in limits
    )


def _with(observation: Observation, record: PoolRecord) -> tuple[PoolRecord, ...]:
    pools = (
        pool
        for pool in observation.pools
        if (pool.tenant, pool.name) != (record.tenant, record.name)
    )
    return (*pools, record)


def _is_used(
    pool: PoolRecord, observation: Observation, deleted_keys: set[tuple[str, str]]
) -> bool:
    """Return whether a pool contains a host, or a pool that remains."""
    has_hosts = any(
        (host.record.tenant, host.record.spec.pool) == (pool.tenant, pool.name)
        for host in observation.hosts
    )
    inner_keys = [
        (inner.tenant, inner.name)
        for inner in observation.pools
        if (inner.tenant, inner.spec.parent) == (pool.tenant, pool.name)
    ]
    return has_hosts or any(key not in deleted_keys for key in inner_keys)
