# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The quota of a host in its pool and in all parents of that pool. Pure: numbers in, numbers out.

A host counts by its nominal size from its reservation until its record is deleted, in every state
in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from ..errors import NotFound, OperationRefused, PoolQuotaExceeded
from ..model.host import HostRecord
from ..model.pool import LIMITS, PoolRecord
from ..model.size import Size
from .plan import Action, Plan

DEEPEST = 8
ENDLESS = 1 << 30
Key = tuple[str, str]
Use = dict[str, int]


@dataclass
class PoolUsage:
    """All pools of one owner, and the present use of each limit.

    :param pools: by tenant and name.
    :param uses: the amount of each limit that hosts in a pool, and in its children, use.
    """

    pools: dict[Key, PoolRecord]
    uses: dict[Key, Use]

    def chain(self, tenant: str, name: str) -> list[PoolRecord]:
        """Return a pool and its parents, the innermost first.

        :raises NotFound: if one of them does not exist.
        :raises OperationRefused: if they form a circle.
        """
        chain: list[PoolRecord] = []
        while name:
            pool = self.pools.get((tenant, name))
            if pool is None:
                cause = f"it is the parent of pool {chain[-1].name}" if chain else ""
                raise NotFound(
                    "the pool does not exist.",
                    name=f"pool {name}",
                    cause=cause,
                    remedy="create the pool, in the same tenant and with the same owner",
                )
            if len(chain) >= DEEPEST:
                raise OperationRefused(
                    f"the pool is inside more than {DEEPEST} pools, or inside itself.",
                    name=chain[0].title,
                    remedy="name another parent",
                )
            chain.append(pool)
            name = pool.spec.parent
        return chain

    def room(self, tenant: str, name: str, size: Size) -> int:
        """Return how many further hosts of a size a pool can contain."""
        return min(self._fitting(pool, size) for pool in self.chain(tenant, name))

    def count_host(self, tenant: str, name: str, size: Size) -> str:
        """Count one further host, or return the reason why the quota does not allow it; then
        nothing is counted.
        """
        chain = self.chain(tenant, name)
        for pool in chain:
            reason = self._why_not(pool, size)
            if reason:
                return reason
        for pool in chain:
            self._add(pool, size, 1)
        return ""

    def give(self, record: HostRecord) -> None:
        """Stop counting a host."""
        for pool in self.around(record):
            self._add(pool, record.size, -1)

    def restore(self, record: HostRecord) -> None:
        """Count a host again."""
        for pool in self.around(record):
            self._add(pool, record.size, 1)

    def use(self, pool: PoolRecord) -> Use:
        """Return the amount that is used of each limit."""
        return self.uses[pool.tenant, pool.name]

    def inside(self, pool: PoolRecord) -> list[PoolRecord]:
        """Return the direct children of a pool."""
        return [
            child
            for child in self.pools.values()
            if (child.tenant, child.spec.parent) == (pool.tenant, pool.name)
        ]

    def around(self, record: HostRecord) -> list[PoolRecord]:
        """Return the pools that a host counts in, as far as they exist: a deleted pool limits
        nothing.
        """
        try:
            return self.chain(record.tenant, record.spec.pool)
        except (NotFound, OperationRefused):
            return []

    def _add(self, pool: PoolRecord, size: Size, times: int) -> None:
        amounts = self.use(pool)
        for name, amount in usage_of(size).items():
            amounts[name] += times * amount

    def _fitting(self, pool: PoolRecord, size: Size) -> int:
        count = ENDLESS
        for name, amount in usage_of(size).items():
            limit = pool.spec.limit(name)
            if limit and amount:
                count = min(count, max(0, limit - self.use(pool)[name]) // amount)
        return count

    def _why_not(self, pool: PoolRecord, size: Size) -> str:
        parts = []
        for name, amount in usage_of(size).items():
            limit, used = pool.spec.limit(name), self.use(pool)[name]
            if limit and amount and used + amount > limit:
                parts.append(
                    f"{used} of {_shown(pool, name)} are used, and {amount} more are needed"
                )
        return f"{pool.title}: {'; '.join(parts)}" if parts else ""


def book(pools: Iterable[PoolRecord], hosts: Iterable[HostRecord]) -> PoolUsage:
    """Return all pools and their use.

    :param hosts: of the same owner; hosts without a pool count nowhere.
    """
    pools_by_key = {(pool.tenant, pool.name): pool for pool in pools}
    usage = PoolUsage(pools_by_key, {key: dict.fromkeys(LIMITS, 0) for key in pools_by_key})
    for record in hosts:
        if record.spec.pool:
            usage.restore(record)
    return usage


def usage_of(size: Size) -> Use:
    """Return the amount of each limit that one host of a size uses."""
    return {"hosts": 1, **asdict(size)}


def check_quota(
    record: HostRecord, pools: Iterable[PoolRecord], hosts: Iterable[HostRecord]
) -> None:
    """Refuse a host that exceeds the quota of its pool. A provider calls this at the moment of the
    reservation, under its lock.

    :param hosts: all hosts on record, of any owner.
    :raises PoolQuotaExceeded: with the numbers.
    """
    if not record.spec.pool:
        return
    own_hosts = [host for host in hosts if host.owner == record.owner and host.uuid != record.uuid]
    reason = book([pool for pool in pools if pool.owner == record.owner], own_hosts).count_host(
        record.tenant, record.spec.pool, record.size
    )
    if reason:
        raise full(record.title, reason)


def full(name: str, cause: str) -> PoolQuotaExceeded:
    """Return the error for a pool without capacity."""
    return PoolQuotaExceeded(
        "the pool has insufficient quota for the host.",
        name=name,
        cause=cause,
        remedy="raise the limits of the pool, or delete hosts in it",
    )


@dataclass(frozen=True)
class AdmittedPlan:
    """The part of a plan that the quota allows.

    :param plan: without the actions that exceed the quota.
    :param rejected: those actions.
    :param reason: the numbers of the first rejected action.
    """

    plan: Plan
    rejected: tuple[Action, ...] = ()
    reason: str = ""


def admit_plan(
    todo: Plan, usage: PoolUsage, tenant: str, pool: str, size: Size, members: Iterable[HostRecord]
) -> AdmittedPlan:
    """Simulate a plan, wave by wave, and reject the actions that exceed the quota at their moment.

    :param size: of each host that the plan creates.
    :param members: the hosts that the plan can delete or replace.
    """
    hosts_by_name, admitted_actions, rejected_actions, reasons = (
        {member.name: member for member in members},
        list[Action](),
        list[Action](),
        list[str](),
    )
    for wave in todo.waves():
        for action in wave:
            if action.verb == "delete" and action.name in hosts_by_name:
                usage.give(hosts_by_name[action.name])
        for action in wave:
            reason = (
                _tried(usage, tenant, pool, size, hosts_by_name.get(action.name), action.verb)
                if pool
                else ""
            )
            (rejected_actions if reason else admitted_actions).append(action)
            reasons += [reason] if reason else []
    return AdmittedPlan(
        Plan(tuple(admitted_actions)), tuple(rejected_actions), reasons[0] if reasons else ""
    )


def _tried(
    usage: PoolUsage, tenant: str, pool: str, size: Size, old: HostRecord | None, verb: str
) -> str:
    """Simulate one action, and return the reason why the quota does not allow it. A replaced host
    is subtracted first, and counted again if the replacement does not fit.
    """
    if verb not in ("create", "replace", "resize"):
        return ""
    replaced = old if verb != "create" else None
    if replaced:
        usage.give(replaced)
    reason = usage.count_host(tenant, pool, size)
    if reason and replaced:
        usage.restore(replaced)
    return reason


def check_change(
    after: PoolRecord, pools: Iterable[PoolRecord], hosts: Iterable[HostRecord], *, force: bool
) -> None:
    """Refuse a pool with a missing parent, inside itself, or smaller than its present use.

    :param force: allow a pool below its present use: its hosts stay, and no new host is created in
        it.
    :raises NotFound: if its parent does not exist.
    :raises OperationRefused: if it is in itself, or too small.
    """
    remaining_pools = [
        record for record in pools if (record.tenant, record.name) != (after.tenant, after.name)
    ]
    usage = book([*remaining_pools, after], hosts)
    for pool in usage.chain(after.tenant, after.name):
        excess = _exceeded_limit(usage, pool)
        if excess and not force:
            raise OperationRefused(
                "the pool would be smaller than its contents."
                if pool is after
                else f"the pool does not fit into {pool.title}.",
                name=after.title,
                cause=excess,
                remedy="delete hosts first; or set force, and then the pool admits no new hosts",
            )


def check_removal(
    record: PoolRecord, pools: Iterable[PoolRecord], hosts: Iterable[HostRecord]
) -> None:
    """Refuse to delete a pool that is not empty.

    :raises OperationRefused: with the objects in the pool.
    """
    contents = [pool.title for pool in book(pools, ()).inside(record)]
    contents += [
        host.title
        for host in hosts
        if (host.tenant, host.spec.pool) == (record.tenant, record.name)
    ]
    if contents:
        raise OperationRefused(
            f"the pool contains {', '.join(sorted(contents)[:10])} ({len(contents)} in total).",
            name=record.title,
            remedy="delete them first",
        )


def overfull(usage: PoolUsage, pool: PoolRecord) -> str:
    """Return the limits that a pool exceeds, in words; a forced change can have reduced them."""
    return _exceeded_limit(usage, pool)


def _exceeded_limit(usage: PoolUsage, pool: PoolRecord) -> str:
    return "; ".join(_overs(usage, pool))


def _overs(usage: PoolUsage, pool: PoolRecord) -> Iterator[str]:
    for name, used in usage.use(pool).items():
        limit = pool.spec.limit(name)
        if limit and used > limit:
            yield f"{used} of {_shown(pool, name)} are used"


def _shown(pool: PoolRecord, name: str) -> str:
    limit = pool.spec.limit(name)
    if name == "memory_mib" and pool.spec.memory_overcommit != 1:
        times = f"{pool.spec.memory_overcommit:g} times over"
        return f"{limit} MiB ({pool.spec.memory_mib} MiB of memory, {times})"
    return f"{limit} {LIMITS[name]}"
