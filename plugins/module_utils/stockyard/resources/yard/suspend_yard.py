# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The suspension of a whole yard, and its resume: all hosts, declared or not, leased or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from ...clock import Deadline
from ...model.fleet import SingleSpec
from ...model.host import Host
from ...model.observation import Observation
from ...planning.plan import Plan, plan_resume, plan_suspension
from ..context import Context
from ..fleets.rollout import run_all
from ..fleets.single_host import SingleHostConvergence
from ..fleets.suspend_fleet import FleetResume, FleetSuspension
from ..hosts import suspension

REASON = "the yard is suspended"


@dataclass(frozen=True)
class YardSuspension:
    """The suspension of all running hosts of a yard. Each fleet and each single host is locked as
    its own convergence locks it. A failure does not stop the others. Hosts with keys in their
    memory are shut down instead.
    """

    ctx: Context

    def plan(self) -> Plan:
        """Return the actions that :meth:`apply` would take now. Changes nothing."""
        return self._plan_from(self.ctx.provider.observe(self.ctx.owner))

    def apply(self, deadline: Deadline) -> Plan:
        """Suspend the hosts; return the actions that were taken.

        :raises StockyardError: if some hosts could not be suspended; all others are.
        """
        ctx, observation = self.ctx, self.ctx.provider.observe(self.ctx.owner)
        todo = self._plan_from(observation)
        _run(
            ctx,
            [host for host in observation.hosts if plan_suspension([host], REASON)],
            lambda tenant, fleet: FleetSuspension(ctx, tenant, fleet, True, REASON, True).apply,
            lambda spec: SingleHostConvergence(ctx, spec, "suspended", True, True).apply,
            deadline,
        )
        return todo

    def _plan_from(self, observation: Observation) -> Plan:
        return suspension.plan(self.ctx, _in_order(observation), REASON, shut_down=True)


@dataclass(frozen=True)
class YardResume:
    """The resume of all suspended hosts of a yard. Hosts that were shut down in place of a
    suspension are started, if this controller has the key of their volumes.
    """

    ctx: Context

    def plan(self) -> Plan:
        """Return the actions that :meth:`apply` would take now. Changes nothing."""
        return _resume_plan(self._hosts(self.ctx.provider.observe(self.ctx.owner)))

    def apply(self, deadline: Deadline) -> Plan:
        """Resume the hosts; return the actions that were taken.

        :raises StockyardError: if some hosts could not be resumed; all others are.
        """
        ctx = self.ctx
        hosts = self._hosts(ctx.provider.observe(ctx.owner))
        _run(
            ctx,
            hosts,
            lambda tenant, fleet: FleetResume(ctx, tenant, fleet, skip_locked=True).apply,
            lambda spec: SingleHostConvergence(ctx, spec, "resumed").apply,
            deadline,
        )
        return _resume_plan(hosts)

    def _hosts(self, observation: Observation) -> list[Host]:
        # Without the key, a failure would keep systemd from suspending the yard at the shutdown.
        return suspension.resumable(self.ctx, _in_order(observation), skip_locked=True)


def _resume_plan(hosts: Iterable[Host]) -> Plan:
    return Plan(tuple(map(plan_resume, hosts)))


def _in_order(observation: Observation) -> list[Host]:
    return sorted(observation.hosts, key=lambda host: (host.record.tenant, host.record.name))


def _run(
    ctx: Context,
    hosts: Iterable[Host],
    of_fleet: Callable[[str, str], Callable[[Deadline], object]],
    of_host: Callable[[SingleSpec], Callable[[Deadline], object]],
    deadline: Deadline,
) -> None:
    """Run the operations on the fleets and the single hosts of a yard."""
    records = [host.record for host in hosts]
    fleets = sorted({(record.tenant, record.fleet) for record in records if record.fleet})
    specs = [
        SingleSpec(record.name, tenant=record.tenant) for record in records if not record.fleet
    ]
    run_all(
        ctx,
        [
            *(partial(of_fleet(tenant, fleet), deadline) for tenant, fleet in fleets),
            *(partial(of_host(spec), deadline) for spec in specs),
        ],
    )
