# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets: converged to their declarations, and deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from ...clock import Deadline
from ...errors import Conflict, NotFound
from ...model.fleet import FleetSpec
from ...model.host import Host, host_domain
from ...model.observation import Observation
from ...planning import lease_policy
from ...planning.declaration import ABSENT
from ...planning.fleets import plan_fleet
from ...planning.plan import Plan, plan_deletion, suspending
from .. import guest_status
from ..hosts import access, health, host_lifecycle, idle_suspension, trust
from ..operation import LockedOperation
from ..pools import pool_lifecycle
from ..templates import build_template
from ..volumes import encryption
from .convergence import LOCK_WAIT, HostConvergence, with_guest_steps
from .rollout import Rollout, run_all


@dataclass(frozen=True)
class FleetConvergence(HostConvergence):
    """The convergence of a fleet to its declaration."""

    spec: FleetSpec
    kind = "fleet"

    @property
    def keeps_hosts(self) -> bool:
        """Return whether hosts are declared."""
        return bool(self.spec.least)

    @property
    def partial(self) -> bool:
        """Return whether a plan is carried out as far as the pool has capacity."""
        return self.spec.on_full != "refuse"

    @contextmanager
    def observed(self, deadline: Deadline) -> Iterator[Observation]:
        """Hold the lock of the fleet; the value is an observation that was made under the lock.

        :raises NotFound: if there is no template to fork from.
        """
        lock = self.ctx.lock_name("fleet", self.spec.tenant, self.spec.name)
        with self.ctx.provider.exclusive(lock, deadline.within(LOCK_WAIT)):
            observation = self.ctx.provider.observe(self.ctx.owner)
            if self.spec.least:
                build_template.get_current(self.spec.tenant, self.spec.template, observation)
            yield observation

    def hosts(self, observation: Observation) -> list[Host]:
        """Return the hosts of the fleet, incomplete ones included."""
        return observation.members(self.spec.tenant, self.spec.name)

    def desired(self, observation: Observation, generation: str) -> Plan:
        """Return the plan before its hosts are admitted."""
        ctx, spec, members = self.ctx, self.spec, self.hosts(observation)
        prefix = host_domain(ctx.owner, spec.tenant, "")
        used_names = (
            name.removeprefix(prefix) for name in observation.names if name.startswith(prefix)
        )
        statuses = guest_status.statuses(ctx, members)
        locked_names = encryption.locked(members, statuses)
        probed_hosts = [host for host in members if host.record.name not in locked_names]
        todo = plan_fleet(
            spec,
            generation,
            observation.hosts,
            used_names,
            trust.current(ctx, spec.tenant, observation.hosts),
            health.unhealthy(ctx, spec.tenant, probed_hosts) if ctx.wait else {},
            ctx.clock.now(),
            pool_lifecycle.remaining_hosts(
                observation,
                spec.tenant,
                spec.host,
                observation.template(spec.tenant, spec.template),
            ),
        )
        todo = with_guest_steps(todo, members, statuses)
        idle_hosts = idle_suspension.suspendable(
            ctx, self.title, spec.tenant, probed_hosts, spec.suspend_after
        )
        reason = f"it ran no container for {spec.suspend_after:g} s"
        return suspending(todo, idle_hosts, reason) if idle_hosts else todo

    def record_limits(self, hosts: list[Host]) -> None:
        """Put the numbers of the fleet on record, for leases that wait and for the daemon."""
        limit, terms = self.spec.growth_limit, self.spec.terms
        for record in (host.record for host in hosts):
            current = (record.fleet_max, record.fleet_terms)
            if current != (limit, terms) and record.phase == "ready":
                # The next run repeats a change that was lost to another controller.
                with suppress(Conflict, NotFound):
                    self.ctx.provider.claim(record, fleet_max=limit, fleet_terms=terms)

    def carry_out(self, todo: Plan, observation: Observation, deadline: Deadline) -> None:
        """Carry out a plan, wave by wave."""
        spec = self.spec
        template = observation.template(spec.tenant, spec.template) if spec.least else None
        Rollout(self.ctx, spec, template, deadline).apply(todo, self.hosts(observation))


@dataclass(frozen=True)
class FleetDeletion(LockedOperation):
    """The deletion of the hosts of a fleet.

    :param reason: for any reason except the declared absence of the fleet, leased hosts remain
        until their leases end.
    """

    tenant: str
    name: str
    reason: str = ABSENT

    @property
    def lock(self) -> str:
        """Return the lock of the fleet."""
        return self.ctx.lock_name("fleet", self.tenant, self.name)

    def plan_from(self, observation: Observation) -> Plan:
        """Return the plan for an observation."""
        return plan_deletion((), self._hosts(observation), self.reason)

    def carry_out(self, todo: Plan, observation: Observation, _deadline: Deadline) -> Plan:
        """Delete the hosts."""
        hosts = self._hosts(observation)
        run_all(
            self.ctx, [partial(host_lifecycle.destroy, self.ctx, host.record) for host in hosts]
        )
        access.sync_known_hosts(self.ctx, self.tenant)
        return todo

    def _hosts(self, observation: Observation) -> list[Host]:
        members = observation.members(self.tenant, self.name)
        return hosts_to_delete(members, self.reason, self.ctx.clock.now())


def hosts_to_delete(hosts: Iterable[Host], reason: str, current_time: float) -> list[Host]:
    """Return the hosts to delete for a reason. Leased hosts are included only if the fleet is
    declared absent.
    """
    return [
        host
        for host in hosts
        if reason == ABSENT or not lease_policy.is_held(host.record, current_time)
    ]
