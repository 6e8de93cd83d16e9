# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The convergence of hosts, as fleets and single hosts share it: from an observation to an admitted
plan, and from the plan to hosts that users can reach.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from ...clock import Deadline
from ...errors import PoolQuotaExceeded
from ...model.fleet import FleetSpec, SingleSpec
from ...model.host import Host, HostSpec
from ...model.observation import Observation
from ...planning.plan import UNKNOWN_GENERATION, Plan, synchronizing, unlocking
from .. import guest_status
from ..context import Context
from ..guest_status import Status
from ..hosts import access, container_ports, egress, host_lifecycle, trust
from ..pools import pool_lifecycle
from ..templates import build_template
from ..volumes import declared, encryption
from .preflight import check_creatable

LOCK_WAIT = 5.0


@dataclass(frozen=True)
class HostConvergence(ABC):
    """The convergence of hosts to a declaration.

    :param ctx: the yard.
    """

    ctx: Context
    spec: FleetSpec | SingleSpec
    kind: ClassVar[str]

    @property
    def title(self) -> str:
        """Return the kind and the name of the object."""
        return f"{self.kind} {self.spec.name}"

    def plan(self) -> Plan:
        """Return the actions that :meth:`apply` would take now. Changes nothing, and works if the
        template does not exist yet.
        """
        return self.plan_from(self.ctx.provider.observe(self.ctx.owner))

    def plan_from(self, observation: Observation, generation: str | None = None) -> Plan:
        """Return the plan for an observation.

        :param generation: the generation that the template will have, if it differs from the
            current one.
        :raises PoolQuotaExceeded: if the pool cannot hold all hosts.
        """
        ctx, tenant = self.ctx, self.spec.tenant
        todo, refusal = self._admitted(observation, generation)
        if refusal:
            raise refusal
        host_lifecycle.check_starts(ctx, todo, observation.of_tenant(tenant))
        if generation is None and self.spec.template:
            build_template.report_missing(
                ctx, self.title, tenant, self.spec.template, todo, observation
            )
        return todo

    def apply(self, deadline: Deadline) -> Plan:
        """Carry the plan out; return the actions that were taken.

        :raises Busy: if another controller works on the hosts.
        :raises PoolQuotaExceeded: if the pool cannot hold all hosts, before or after the other
            hosts are created.
        """
        ctx, tenant = self.ctx, self.spec.tenant
        with self.observed(deadline) as observation:
            todo, refusal = self._admitted(observation)
            if self.keeps_hosts:
                trust.prepare(ctx, tenant, observation.hosts)
            try:
                self.carry_out(todo, observation, deadline)
            finally:
                # If some hosts failed, users can still use the remaining ones.
                current = access.sync_known_hosts(ctx, tenant)
            self.record_limits(self.hosts(current))
            egress.reopen_tunnels(ctx, self.hosts(current), deadline)
            container_ports.ensure_all(ctx, self.hosts(current), deadline)
            if refusal:
                raise refusal
            return todo

    def _admitted(
        self, observation: Observation, generation: str | None = None
    ) -> tuple[Plan, PoolQuotaExceeded | None]:
        """Return the plan as far as the pool has capacity, and an error if it lacks capacity for
        the rest.

        :raises PoolQuotaExceeded: if capacity is lacking and no partial plan is allowed.
        """
        ctx, tenant = self.ctx, self.spec.tenant
        template_name = self.template_name(observation)
        template = observation.template(tenant, template_name)
        if generation is None:
            generation = template.record.generation if template else UNKNOWN_GENERATION
        desired = self.desired(observation, generation)
        spec = self.host_spec(observation)
        fitted = pool_lifecycle.admit_plan(
            observation, tenant, spec, template, desired, self.hosts(observation)
        )
        refusal = None
        if fitted.rejected:
            outcome = (
                "The other hosts are, or will be, as declared."
                if self.partial
                else "Nothing was changed."
            )
            refusal = pool_lifecycle.refusal(self.title, fitted, outcome)
            if not self.partial:
                raise refusal
        check_creatable(ctx, tenant, spec, fitted.plan, observation, template)
        declared.validate_plan(ctx, tenant, template_name, spec, fitted.plan, observation)
        return fitted.plan, refusal

    @property
    @abstractmethod
    def keeps_hosts(self) -> bool:
        """Return whether hosts are declared, which need certificates and keys."""

    @property
    def partial(self) -> bool:
        """Return whether a plan is carried out as far as the pool has capacity."""
        return False

    def template_name(self, _observation: Observation) -> str:
        """Return the template that new hosts are forked from; an empty string if there is none."""
        return self.spec.template

    def host_spec(self, _observation: Observation) -> HostSpec:
        """Return the declaration of new hosts."""
        return self.spec.host

    @abstractmethod
    def observed(self, deadline: Deadline) -> AbstractContextManager[Observation]:
        """Hold the lock of the hosts; the value is an observation that was made under the lock."""

    @abstractmethod
    def hosts(self, observation: Observation) -> list[Host]:
        """Return the hosts that exist."""

    @abstractmethod
    def desired(self, observation: Observation, generation: str) -> Plan:
        """Return the plan before its hosts are admitted.

        :param generation: the generation of new hosts.
        """

    def record_limits(self, _hosts: list[Host]) -> None:
        """Put the limits of the declaration on record that later requests need."""
        return

    @abstractmethod
    def carry_out(self, todo: Plan, observation: Observation, deadline: Deadline) -> None:
        """Carry out a plan."""


def with_guest_steps(todo: Plan, hosts: list[Host], statuses: Mapping[str, Status]) -> Plan:
    """Return a plan that also unlocks hosts that wait for keys, and sets clocks that are wrong.

    :param statuses: the status of each host, by uuid.
    """
    skewed_hosts = guest_status.skewed(hosts, statuses)
    clock_reasons = {
        host.record.name: skewed_hosts[host.record.uuid]
        for host in hosts
        if host.record.uuid in skewed_hosts
    }
    return synchronizing(unlocking(todo, encryption.locked(hosts, statuses)), clock_reasons)
