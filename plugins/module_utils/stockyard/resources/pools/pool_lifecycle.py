# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools: created, changed while hosts run, deleted; and the admission of a plan to its pool."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ...clock import Deadline
from ...errors import OperationRefused, PoolQuotaExceeded
from ...model import codec
from ...model.host import Host, HostSpec
from ...model.observation import Observation, Template
from ...model.pool import LIMITS, PoolRecord, PoolSpec
from ...model.pool_info import FreeAmounts, HostMemory, PoolAmounts, PoolInfo, PoolMemory
from ...model.size import Size
from ...model.template import TemplateRecord
from ...planning import memory_pressure, quota, resize
from ...planning.plan import Action, Plan, delete_action
from ...planning.quota import AdmittedPlan, PoolUsage
from ..context import Context
from ..operation import LockedOperation

ABSENT = "it is declared absent"


@dataclass(frozen=True)
class PoolConvergence(LockedOperation):
    """The convergence of a pool to its declaration. Hosts in it keep running.

    :param force: allow limits below the current use: then the pool admits no new hosts.
    """

    spec: PoolSpec
    force: bool = False

    @property
    def lock(self) -> str:
        """Return the lock of the pool."""
        return self.ctx.lock_name("pool", self.spec.tenant, self.spec.name)

    def plan_from(self, observation: Observation) -> Plan:
        """Return the plan for an observation.

        :raises OperationRefused: if the change would be refused.
        """
        spec = self.spec
        existing = observation.pool(spec.tenant, spec.name)
        if existing and existing.spec == spec:
            return Plan()
        if existing and existing.spec.parent != spec.parent:
            raise OperationRefused(
                f"the pool cannot be moved; its parent is {existing.spec.parent or 'no pool'}.",
                name=existing.title,
                remedy="create another pool, and declare its fleets there",
            )
        hosts = (host.record for host in observation.hosts)
        quota.check_change(self.record(observation), observation.pools, hosts, force=self.force)
        after = codec.to_dict(spec)
        if existing is None:
            return Plan((Action("create", "pool", spec.name, "it does not exist", {}, after),))
        before = codec.to_dict(existing.spec)
        differs = ", ".join(sorted(key for key in after if after[key] != before[key]))
        return Plan((Action("change", "pool", spec.name, f"{differs} changed", before, after),))

    def carry_out(self, todo: Plan, observation: Observation, _deadline: Deadline) -> Plan:
        """Write the record of the pool."""
        for action in todo.actions:
            self.ctx.provider.pools.put(self.record(observation), force=self.force)
            self.ctx.progress(f"pool {self.spec.name}: {action.verb}d")
        return todo

    def record(self, observation: Observation) -> PoolRecord:
        """Return the pool's record as declared."""
        existing = observation.pool(self.spec.tenant, self.spec.name)
        if existing:
            return replace(existing, spec=self.spec)
        return PoolRecord(self.ctx.owner, str(uuid.uuid4()), self.spec, self.ctx.clock.now())


@dataclass(frozen=True)
class PoolDeletion(LockedOperation):
    """The deletion of an empty pool."""

    tenant: str
    name: str
    reason: str = ABSENT

    @property
    def lock(self) -> str:
        """Return the lock of the pool."""
        return self.ctx.lock_name("pool", self.tenant, self.name)

    def plan_from(self, observation: Observation) -> Plan:
        """Return the plan for an observation.

        :raises OperationRefused: if the pool is not empty.
        """
        existing = observation.pool(self.tenant, self.name)
        if existing is None:
            return Plan()
        hosts = [host.record for host in observation.hosts]
        quota.check_removal(existing, observation.pools, hosts)
        return Plan((delete_action("pool", self.name, self.reason, codec.to_dict(existing.spec)),))

    def carry_out(self, todo: Plan, observation: Observation, _deadline: Deadline) -> Plan:
        """Delete the pool."""
        existing = observation.pool(self.tenant, self.name)
        if existing:
            self.ctx.provider.pools.delete(existing)
            self.ctx.progress(f"{existing.title}: deleted")
        return todo


def book(observation: Observation) -> PoolUsage:
    """Return the pools with the use of each."""
    return quota.book(observation.pools, (host.record for host in observation.hosts))


def size_of(spec: HostSpec, template: TemplateRecord | None) -> Size:
    """Return the nominal size of a new host. If its template does not exist yet, only the declared
    values are known.
    """
    return (
        resize.desired_size(spec, frozen(template))
        if template
        else Size(spec.vcpus, spec.memory_mib)
    )


def frozen(template: TemplateRecord) -> Size:
    """Return the size that a template was frozen with."""
    return Size(template.hardware.vcpus, template.hardware.memory_mib, template.disk_gib)


def most(ctx: Context, template: TemplateRecord) -> Size:
    """Return the size up to which resources can be plugged into a template's forks."""
    resizes = ctx.provider.capabilities.resizes
    return Size(template.hardware.max_vcpus, template.max_memory_mib) if resizes else Size()


def remaining_hosts(
    observation: Observation, tenant: str, spec: HostSpec, template: Template | None
) -> int | None:
    """Return how many more hosts the pool can hold; ``None`` if no pool limits the number.

    :raises NotFound: if the pool does not exist.
    """
    return (
        book(observation).room(
            tenant, spec.pool, size_of(spec, template.record if template else None)
        )
        if spec.pool
        else None
    )


def admit_plan(
    observation: Observation,
    tenant: str,
    spec: HostSpec,
    template: Template | None,
    todo: Plan,
    hosts: Iterable[Host],
) -> AdmittedPlan:
    """Return a plan as far as its pool has capacity for it."""
    members = [host.record for host in hosts]
    return quota.admit_plan(
        todo,
        book(observation),
        tenant,
        spec.pool,
        size_of(spec, template.record if template else None),
        members,
    )


def refusal(name: str, admitted: AdmittedPlan, state: str) -> PoolQuotaExceeded:
    """Return the error for the actions that the pool has no capacity for.

    :param state: the state of all other objects, in words.
    """
    names = [f"{action.kind} {action.name}" for action in admitted.rejected]
    listed = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return PoolQuotaExceeded(
        f"the pool has insufficient quota for {len(names)} host{'s' * (len(names) != 1)} "
        f"({listed}). {state}",
        name=name,
        cause=admitted.reason,
        remedy="raise the limits of the pool, or delete hosts in it",
    )


def describe(ctx: Context, observation: Observation, record: PoolRecord) -> PoolInfo:
    """Return the public facts of a pool."""
    usage, spec = book(observation), record.spec
    hosts = _inside(usage, record, observation)
    memory, facts = _memory(ctx, hosts), ctx.provider.pools.facts(record)
    used_amounts, overfull_limits = usage.use(record), quota.overfull(usage, record)
    free_amounts = {
        limit: max(0, spec.limit(limit) - used_amounts[limit]) if spec.limit(limit) else None
        for limit in LIMITS
    }
    return PoolInfo(
        **codec.to_dict(spec),
        owner=record.owner,
        uuid=record.uuid,
        created=record.created,
        used=PoolAmounts(**used_amounts),
        free=FreeAmounts(**free_amounts),
        members=tuple(sorted(host.record.name for host in hosts)),
        pools=tuple(sorted(inner_pool.name for inner_pool in usage.inside(record))),
        held=PoolMemory(memory_pressure.private(memory), memory) if memory else None,
        first_to_go=memory_pressure.oom_candidate(memory),
        warnings=(
            *([f"{overfull_limits}; the pool admits no new hosts"] if overfull_limits else []),
            *memory_pressure.warnings(record, memory, facts.available_mib),
        ),
        enforced=facts.enforced,
        enforced_reason=facts.enforced_reason,
        available_mib=facts.available_mib,
    )


def _inside(usage: PoolUsage, pool: PoolRecord, observation: Observation) -> list[Host]:
    """Return the hosts in a pool and in all its inner pools."""
    return [host for host in observation.hosts if pool in usage.around(host.record)]


def _memory(ctx: Context, hosts: Iterable[Host]) -> tuple[HostMemory, ...]:
    """Return the memory that running hosts use, if the hypervisor reports it."""
    records = [host.record for host in hosts if host.state == "running"]
    uses = [(record, ctx.provider.facts(record).memory) for record in records]
    return tuple(
        HostMemory(
            name=record.name,
            nominal_mib=record.size.memory_mib,
            private_mib=use.private_mib,
            shared_mib=use.shared_mib,
            oom_score=use.oom_score,
        )
        for record, use in uses
        if use
    )
