# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host has room in its pool, and in all pools around that. Pure: numbers in, numbers out.

A host counts by its nominal size from its reservation until its record is gone, whatever it does
meanwhile.
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
    """All pools of one owner, and how much of each is used.

    :param pools: by tenant and name.
    :param uses: what hosts in it, and in pools below it, take of each limit.
    """

    pools: dict[Key, PoolRecord]
    uses: dict[Key, Use]

    def chain(self, tenant: str, name: str) -> list[PoolRecord]:
        """A pool and those around it, the innermost first.

        :raises NotFound: when one of them is not there.
        :raises Refused: when they go round in a circle.
        """
        found: list[PoolRecord] = []
        while name:
            pool = self.pools.get((tenant, name))
            if pool is None:
                inside = f"pool {found[-1].name} is in it" if found else ""
                raise NotFound(
                    "there is no such pool.",
                    name=f"pool {name}",
                    cause=inside,
                    remedy="create the pool, in the same tenant and with the same owner",
                )
            if len(found) >= DEEPEST:
                raise OperationRefused(
                    f"it is in more than {DEEPEST} pools, or in itself.",
                    name=found[0].title,
                    remedy="name another parent",
                )
            found.append(pool)
            name = pool.spec.parent
        return found

    def room(self, tenant: str, name: str, size: Size) -> int:
        """How many more hosts of a size there can be in a pool."""
        return min(self._fitting(pool, size) for pool in self.chain(tenant, name))

    def take(self, tenant: str, name: str, size: Size) -> str:
        """Count one host more, or say why there is no room for it; then nothing is counted."""
        chain = self.chain(tenant, name)
        for pool in chain:
            why = self._why_not(pool, size)
            if why:
                return why
        for pool in chain:
            self._add(pool, size, 1)
        return ""

    def give(self, record: HostRecord) -> None:
        """Count a host no more."""
        for pool in self.around(record):
            self._add(pool, record.size, -1)

    def restore(self, record: HostRecord) -> None:
        """Count a host again."""
        for pool in self.around(record):
            self._add(pool, record.size, 1)

    def use(self, pool: PoolRecord) -> Use:
        """What is taken of each limit."""
        return self.uses[pool.tenant, pool.name]

    def inside(self, pool: PoolRecord) -> list[PoolRecord]:
        """The pools that are in one, directly."""
        return [
            p for p in self.pools.values() if (p.tenant, p.spec.parent) == (pool.tenant, pool.name)
        ]

    def around(self, record: HostRecord) -> list[PoolRecord]:
        """The pools that a host counts in; as far as they are there: one that is gone limits
        nothing.
        """
        try:
            return self.chain(record.tenant, record.spec.pool)
        except (NotFound, OperationRefused):
            return []

    def _add(self, pool: PoolRecord, size: Size, times: int) -> None:
        use = self.use(pool)
        for name, amount in wanted(size).items():
            use[name] += times * amount

    def _fitting(self, pool: PoolRecord, size: Size) -> int:
        found = ENDLESS
        for name, amount in wanted(size).items():
            limit = pool.spec.limit(name)
            if limit and amount:
                found = min(found, max(0, limit - self.use(pool)[name]) // amount)
        return found

    def _why_not(self, pool: PoolRecord, size: Size) -> str:
        parts = []
        for name, amount in wanted(size).items():
            limit, used = pool.spec.limit(name), self.use(pool)[name]
            if limit and amount and used + amount > limit:
                parts.append(
                    f"{used} of {_shown(pool, name)} are taken, and {amount} more asked for"
                )
        return f"{pool.title}: {'; '.join(parts)}" if parts else ""


def book(pools: Iterable[PoolRecord], hosts: Iterable[HostRecord]) -> PoolUsage:
    """What there is, and who takes how much of it.

    :param hosts: of the same owner; those of no pool count nowhere.
    """
    known = {(p.tenant, p.name): p for p in pools}
    made = PoolUsage(known, {key: dict.fromkeys(LIMITS, 0) for key in known})
    for record in hosts:
        if record.spec.pool:
            made.restore(record)
    return made


def wanted(size: Size) -> Use:
    """What one host of a size takes of each limit."""
    return {"hosts": 1, **asdict(size)}


def admit(record: HostRecord, pools: Iterable[PoolRecord], hosts: Iterable[HostRecord]) -> None:
    """Refuse a host that there is no room for. A provider asks this at the moment of the
    reservation, under its lock.

    :param hosts: all that are on record, of any owner.
    :raises PoolQuotaExceeded: with the numbers.
    """
    if not record.spec.pool:
        return
    mine = [h for h in hosts if h.owner == record.owner and h.uuid != record.uuid]
    why = book([p for p in pools if p.owner == record.owner], mine).take(
        record.tenant, record.spec.pool, record.size
    )
    if why:
        raise full(record.title, why)


def full(name: str, cause: str) -> PoolQuotaExceeded:
    """The refusal."""
    return PoolQuotaExceeded(
        "its pool has no room for it.",
        name=name,
        cause=cause,
        remedy="grow the pool, or take hosts out of it away",
    )


@dataclass(frozen=True)
class AdmittedPlan:
    """A plan as far as there is room for it.

    :param plan: without the actions that there is no room for.
    :param rejected: those actions.
    :param reason: the numbers of the first of them.
    """

    plan: Plan
    rejected: tuple[Action, ...] = ()
    reason: str = ""


def fit(
    todo: Plan, found: PoolUsage, tenant: str, pool: str, size: Size, members: Iterable[HostRecord]
) -> AdmittedPlan:
    """Take a plan in thought, wave by wave, and leave out what there is no room for at its moment.

    :param size: of each host that is made.
    :param members: the hosts that the plan may take away or replace.
    """
    there, kept, out, reasons = (
        {m.name: m for m in members},
        list[Action](),
        list[Action](),
        list[str](),
    )
    for wave in todo.waves():
        for action in wave:
            if action.verb == "destroy" and action.name in there:
                found.give(there[action.name])
        for action in wave:
            why = (
                _tried(found, tenant, pool, size, there.get(action.name), action.verb)
                if pool
                else ""
            )
            (out if why else kept).append(action)
            reasons += [why] if why else []
    return AdmittedPlan(Plan(tuple(kept)), tuple(out), reasons[0] if reasons else "")


def _tried(
    found: PoolUsage, tenant: str, pool: str, size: Size, old: HostRecord | None, verb: str
) -> str:
    """Make one host in thought; why there is no room. One that is replaced goes first, and stays if
    that fails.
    """
    if verb not in ("create", "replace", "resize"):
        return ""
    leaves = old if verb != "create" else None
    if leaves:
        found.give(leaves)
    why = found.take(tenant, pool, size)
    if why and leaves:
        found.restore(leaves)
    return why


def check_change(
    after: PoolRecord, pools: Iterable[PoolRecord], hosts: Iterable[HostRecord], *, force: bool
) -> None:
    """Refuse a pool that cannot be: in nothing, in itself, or smaller than what is in it.

    :param force: let it be smaller: what is in it stays, and nothing new is let in.
    :raises NotFound: when its parent is not there.
    :raises Refused: when it is in itself, or too small.
    """
    others = [p for p in pools if (p.tenant, p.name) != (after.tenant, after.name)]
    found = book([*others, after], hosts)
    for pool in found.chain(after.tenant, after.name):
        over = _over(found, pool)
        if over and not force:
            raise OperationRefused(
                "it would be smaller than what is in it."
                if pool is after
                else f"it does not fit into {pool.title}.",
                name=after.title,
                cause=over,
                remedy="take hosts away first, or force it: then nothing new is let in",
            )


def check_removal(
    record: PoolRecord, pools: Iterable[PoolRecord], hosts: Iterable[HostRecord]
) -> None:
    """Refuse to take a pool away that something is in.

    :raises Refused: naming it.
    """
    inside = [p.title for p in book(pools, ()).inside(record)]
    inside += [h.title for h in hosts if (h.tenant, h.spec.pool) == (record.tenant, record.name)]
    if inside:
        raise OperationRefused(
            f"{len(inside)} things are in it: {', '.join(sorted(inside)[:10])}.",
            name=record.title,
            remedy="take them away first",
        )


def overfull(found: PoolUsage, pool: PoolRecord) -> str:
    """What of a pool is over its limit, in words; it may have been shrunk by force."""
    return _over(found, pool)


def _over(found: PoolUsage, pool: PoolRecord) -> str:
    return "; ".join(_overs(found, pool))


def _overs(found: PoolUsage, pool: PoolRecord) -> Iterator[str]:
    for name, used in found.use(pool).items():
        limit = pool.spec.limit(name)
        if limit and used > limit:
            yield f"{used} of {_shown(pool, name)} are taken"


def _shown(pool: PoolRecord, name: str) -> str:
    limit = pool.spec.limit(name)
    if name == "memory_mib" and pool.spec.memory_overcommit != 1:
        times = f"{pool.spec.memory_overcommit:g} times over"
        return f"{limit} MiB ({pool.spec.memory_mib} MiB of memory, {times})"
    return f"{limit} {LIMITS[name]}"
