# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts from a running host, with its memory, its disk and its containers.

The parent is frozen into a branch and continues. Each child is forked from the branch and gets
its own identity before its network link comes up.

No client offers this operation: without the stop of emulated parents, a child had damaged memory,
and it was not tried for long yet whether the stop prevents that in each case.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from ...clock import Deadline
from ...errors import Conflict, NotFound
from ...model import codec
from ...model.branch import BranchSpec
from ...model.host import Host
from ...model.observation import Observation
from ...model.template import TemplateRecord
from ...planning.plan import Action, Plan
from ..context import Context
from ..hosts import access, branches, host_lifecycle, trust
from ..hosts.reservation import HostRequest
from .convergence import LOCK_WAIT


@dataclass(frozen=True)
class HostBranching:
    """The creation of the children of a host that do not exist yet, all from one branch.

    :param ctx: the yard.
    """

    ctx: Context
    spec: BranchSpec

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
        fleet = self._parent(ctx.provider.observe(ctx.owner)).record.fleet
        with ExitStack() as stack:
            for lock in self._locks(fleet):
                stack.enter_context(ctx.provider.exclusive(lock, deadline.within(LOCK_WAIT)))
            observation = ctx.provider.observe(ctx.owner)
            parent = self._parent(observation).record
            if parent.fleet not in (fleet, ""):
                raise Conflict(
                    "it became the member of another fleet.", name=parent.title, remedy="run again"
                )
            yield observation

    def _locks(self, fleet: str) -> list[str]:
        """Return the names of all locks, in the order in which each controller takes them."""
        ctx, spec = self.ctx, self.spec
        kind, name = ("fleet", fleet) if fleet else ("host", spec.parent)
        locks = {ctx.lock_name("host", spec.tenant, child) for child in spec.names}
        return sorted({ctx.lock_name(kind, spec.tenant, name), *locks})

    def _plan_from(self, observation: Observation) -> Plan:
        spec, parent = self.spec, self._parent(observation)
        existing = {host.record.name for host in observation.of_tenant(spec.tenant)}
        actions = tuple(
            Action(
                "create",
                "host",
                name,
                f"branched from host {spec.parent}",
                {},
                codec.to_dict(self._request(name, parent).spec),
            )
            for name in spec.names
            if name not in existing
        )
        if actions:
            branches.check(self.ctx, parent)
            _template(observation, parent)
        return Plan(actions)

    def _carry_out(self, todo: Plan, observation: Observation, deadline: Deadline) -> None:
        ctx, parent = self.ctx, self._parent(observation)
        template = _template(observation, parent)
        # A branch whose controller died is deleted before another one needs its space.
        store = branches.store(ctx, parent.record.title)
        store.prune(ctx.owner)
        branch = branches.freeze(ctx, parent, template, deadline)
        try:
            for action in todo.actions:
                request = self._request(action.name, parent)
                host_lifecycle.create_child(ctx, request, template, branch, deadline)
        finally:
            store.release(branch)

    def _parent(self, observation: Observation) -> Host:
        spec = self.spec
        parent = observation.host(spec.tenant, spec.parent)
        if parent is None:
            raise NotFound("the host does not exist.", name=f"host {spec.parent}")
        return parent

    def _request(self, name: str, parent: Host) -> HostRequest:
        spec = self.spec
        # A published port belongs to one host: children publish theirs at their own addresses.
        child = replace(parent.record.spec, bind="", fork_mode="instant")
        return HostRequest(spec.tenant, "", name, child, dict(spec.labels), spec.ttl)


def _template(observation: Observation, parent: Host) -> TemplateRecord:
    record = parent.record
    for template in observation.generations(record.tenant, record.template):
        if template.record.generation == record.generation:
            return template.record
    raise NotFound(
        "the template of the host does not exist.",
        name=record.title,
        remedy="replace the host, and run again",
    )
