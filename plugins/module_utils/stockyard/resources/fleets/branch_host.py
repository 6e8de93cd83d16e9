# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts from a running host, with its memory, its disk and its containers.

The parent is frozen into a branch and continues. Each child is forked from the branch and gets
its own identity before its network link comes up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from ...clock import Deadline
from ...errors import Conflict, NotFound, OperationRefused
from ...model import codec
from ...model.branch import BranchSpec
from ...model.host import Host, HostRecord, HostSpec
from ...model.observation import Observation, Template
from ...model.volume import VolumeRecord
from ...planning.plan import Action, Plan
from ..context import Context
from ..hosts import access, branches, host_lifecycle, trust
from ..hosts.reservation import HostRequest
from ..pools import pool_lifecycle
from ..volumes import branched
from .convergence import LOCK_WAIT
from .preflight import check_creatable


@dataclass(frozen=True)
class HostBranching:
    """The creation of the children of a host that do not exist yet, all from one branch.

    :param ctx: the yard.
    :param lease_child: leases a reserved child to the holder of its leased parent; returns the
        record of the child.
    """

    ctx: Context
    spec: BranchSpec
    lease_child: Callable[[Context, HostRecord, HostRecord], HostRecord]

    def plan(self) -> Plan:
        """Return the actions that :meth:`apply` would take now. Changes nothing.

        :raises NotFound: if the parent does not exist.
        :raises StockyardError: if the parent cannot be branched, with the reason.
        """
        return self._plan_from(self.ctx.provider.observe(self.ctx.owner))

    def apply(self, deadline: Deadline, /) -> Plan:
        """Create the children; return the actions that were taken.

        :raises Busy: if another controller works on the parent or a child.
        :raises StockyardError: if the parent cannot be branched, with the reason; or if a child
            could not be created: earlier children stay.
        """
        ctx, tenant = self.ctx, self.spec.tenant
        with self._observed(deadline) as observation:
            todo = self._plan_from(observation)
            try:
                if todo:
                    trust.prepare(ctx, tenant, observation.hosts)
                    self._carry_out(todo, observation, deadline)
            finally:
                # If a child failed, users can still use the earlier ones.
                access.sync_known_hosts(ctx, tenant)
            return todo

    @contextmanager
    def _observed(self, deadline: Deadline) -> Iterator[Observation]:
        """Hold the locks of the parent, or of its fleet, and of the children; the value is an
        observation that was made under the locks.

        :raises Conflict: if the parent became the member of another fleet in the meantime.
        """
        ctx = self.ctx
        fleet = self._parent_fleet(ctx.provider.observe(ctx.owner))
        with ExitStack() as stack:
            for lock in self._locks(fleet):
                stack.enter_context(ctx.provider.exclusive(lock, deadline.within(LOCK_WAIT)))
            observation = ctx.provider.observe(ctx.owner)
            if self._parent_fleet(observation) not in (fleet, ""):
                raise Conflict(
                    "it became the member of another fleet.",
                    name=f"host {self.spec.host}",
                    remedy="run again",
                )
            yield observation

    def _locks(self, parent_fleet: str) -> list[str]:
        """Return the names of all locks, in the order in which each controller takes them."""
        ctx, spec = self.ctx, self.spec
        keys = {("fleet", parent_fleet) if parent_fleet else ("host", spec.host)}
        keys |= {("fleet", spec.fleet)} if spec.fleet else {("host", n) for n in spec.children}
        return sorted(ctx.lock_name(kind, spec.tenant, name) for kind, name in keys)

    def _plan_from(self, observation: Observation) -> Plan:
        """Return the plan for an observation: children that are complete stay as they are.

        :raises StockyardError: if a child cannot be created, with the reason.
        """
        spec, ctx = self.spec, self.ctx
        existing = {host.record.name: host.record for host in observation.of_tenant(spec.tenant)}
        own_branches = branches.uuids(ctx, spec)
        verbs: dict[str, str] = {}
        for name in spec.children:
            record = existing.get(name)
            if record is None:
                verbs[name] = "create"
            elif record.branch not in own_branches or record.fleet != spec.fleet:
                raise _unrelated(record, spec)
            elif record.phase in ("creating", "deleting"):
                verbs[name] = "replace"
        if not verbs:
            return Plan()
        parent = self._parent(observation)
        template = template_of(observation, parent)
        volumes = _volumes(observation, parent)
        branches.check(ctx, parent, spec, template.record.profile, volumes)
        branched.check_names(spec, parent.record, volumes, verbs, observation)
        child = self._child_spec(parent)
        todo = Plan(tuple(self._action(verb, name, child) for name, verb in verbs.items()))
        self._check_room(todo, child, template, observation)
        return todo

    def _action(self, verb: str, name: str, child: HostSpec) -> Action:
        reason = f"branched from host {self.spec.host}"
        return Action(verb, "host", name, reason, {}, codec.to_dict(child))

    def _check_room(
        self, todo: Plan, child: HostSpec, template: Template, observation: Observation
    ) -> None:
        tenant, title = self.spec.tenant, f"host {self.spec.host}"
        children = [
            host for host in observation.of_tenant(tenant) if host.record.name in self.spec.children
        ]
        fitted = pool_lifecycle.admit_plan(observation, tenant, child, template, todo, children)
        if fitted.rejected:
            raise pool_lifecycle.refusal(title, fitted, "Nothing was changed.")
        check_creatable(self.ctx, tenant, child, todo, observation, template)

    def _carry_out(self, todo: Plan, observation: Observation, deadline: Deadline) -> None:
        ctx, parent = self.ctx, self._parent(observation)
        template = template_of(observation, parent).record
        for action in todo.actions:
            incomplete_child = observation.host(self.spec.tenant, action.name)
            if incomplete_child:
                host_lifecycle.destroy(ctx, incomplete_child.record)
        # A branch whose controller died is deleted before another one needs its space.
        store = ctx.provider.branches
        store.prune(ctx.owner)
        volumes = _volumes(observation, parent)
        branch = branches.freeze(ctx, parent.record, template, volumes, deadline)
        origin = host_lifecycle.Origin(
            branch,
            parent.record,
            self.spec.containers,
            self.spec.volumes,
            self._lease_of(parent),
        )
        try:
            for action in todo.actions:
                request = self._request(action.name, parent)
                host_lifecycle.create_child(ctx, request, template, origin, deadline)
        finally:
            store.release(branch)

    def _lease_of(self, parent: Host) -> Callable[[HostRecord], HostRecord]:
        """Return the function that leases a child as its parent is leased, if it is leased."""
        return lambda child: (
            self.lease_child(self.ctx, parent.record, child) if parent.record.lease else child
        )

    def _parent(self, observation: Observation) -> Host:
        spec = self.spec
        parent = observation.host(spec.tenant, spec.host)
        if parent is None:
            raise NotFound("the host does not exist.", name=f"host {spec.host}")
        return parent

    def _parent_fleet(self, observation: Observation) -> str:
        parent = observation.host(self.spec.tenant, self.spec.host)
        return parent.record.fleet if parent else ""

    def _request(self, name: str, parent: Host) -> HostRequest:
        spec = self.spec
        child, record = self._child_spec(parent), parent.record
        fleet_max = record.fleet_max if spec.fleet == record.fleet else 0
        return HostRequest(
            spec.tenant, spec.fleet, name, child, dict(spec.labels), spec.ttl, fleet_max
        )

    def _child_spec(self, parent: Host) -> HostSpec:
        volumes = branched.uses_of_child(parent.record, self.spec.volumes)
        # A published port belongs to one host: children publish theirs at their own addresses.
        return replace(parent.record.spec, bind="", fork_mode="instant", volumes=volumes)


def _volumes(observation: Observation, parent: Host) -> list[VolumeRecord]:
    """Return the volumes that are attached to a host."""
    return observation.volumes.held_by(parent.record.uuid)


def _unrelated(record: HostRecord, spec: BranchSpec) -> OperationRefused:
    return OperationRefused(
        f"the host exists, and it is not a child of host {spec.host}"
        f"{f' in fleet {spec.fleet}' * bool(spec.fleet)}.",
        name=record.title,
        remedy="choose another name, or delete that host",
    )


def template_of(observation: Observation, parent: Host) -> Template:
    """Return the template that a host was forked from, directly or through branches.

    :raises NotFound: if it does not exist.
    """
    record = parent.record
    for template in observation.generations(record.tenant, record.template):
        if template.record.generation == record.generation:
            return template
    raise NotFound(
        "the template of the host does not exist.",
        name=record.title,
        remedy="replace the host, and run again",
    )
