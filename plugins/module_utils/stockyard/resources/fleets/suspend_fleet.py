# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The suspension of all hosts of a fleet, and their resume."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ...clock import Deadline
from ...model.host import Host
from ...model.observation import Observation
from ...planning import lease_policy
from ...planning.fleets import ordinal
from ...planning.plan import DECLARED_SUSPENDED, Plan, plan_resume
from ..hosts import host_lifecycle, suspension
from ..operation import LockedOperation
from .rollout import run_all


@dataclass(frozen=True)
class FleetSuspension(LockedOperation):
    """The suspension of the running hosts of a fleet. Nothing is created, replaced or deleted.

    :param leased: whether leased hosts are suspended too.
    :param shut_down: whether hosts with keys in their memory are shut down; else they are refused.
    """

    tenant: str
    name: str
    leased: bool = False
    reason: str = DECLARED_SUSPENDED
    shut_down: bool = False

    @property
    def lock(self) -> str:
        """Return the lock of the fleet."""
        return self.ctx.lock_name("fleet", self.tenant, self.name)

    def plan_from(self, observation: Observation) -> Plan:
        """Return the plan for an observation.

        :raises StockyardError: if the hosts cannot be suspended together.
        """
        current_time = self.ctx.clock.now()
        hosts = [
            host
            for host in _members(observation, self.tenant, self.name)
            if self.leased or not lease_policy.is_held(host.record, current_time)
        ]
        return suspension.plan(self.ctx, hosts, self.reason, shut_down=self.shut_down)

    def carry_out(self, todo: Plan, observation: Observation, deadline: Deadline) -> Plan:
        """Suspend the hosts, or shut them down."""
        ctx, verbs = self.ctx, {action.name: action.verb for action in todo.actions}
        calls = {"suspend": host_lifecycle.suspend, "stop": host_lifecycle.shut_down}
        run_all(
            ctx,
            [
                partial(calls[verbs[host.record.name]], ctx, host.record, deadline)
                for host in _chosen(todo, observation.members(self.tenant, self.name))
            ],
        )
        return todo


@dataclass(frozen=True)
class FleetResume(LockedOperation):
    """The resume of the suspended hosts of a fleet, leased or not. Hosts that were shut down in
    place of a suspension are started.

    :param skip_locked: whether hosts with encrypted volumes stay off if this controller does not
        have their key; else the resume is refused.
    """

    tenant: str
    name: str
    skip_locked: bool = False

    @property
    def lock(self) -> str:
        """Return the lock of the fleet."""
        return self.ctx.lock_name("fleet", self.tenant, self.name)

    def plan_from(self, observation: Observation) -> Plan:
        """Return the plan for an observation.

        :raises StockyardError: if a host cannot be started.
        """
        hosts = suspension.resumable(
            self.ctx,
            _members(observation, self.tenant, self.name),
            skip_locked=self.skip_locked,
        )
        todo = Plan(tuple(map(plan_resume, hosts)))
        host_lifecycle.check_starts(self.ctx, todo, hosts)
        return todo

    def carry_out(self, todo: Plan, observation: Observation, deadline: Deadline) -> Plan:
        """Resume or start the hosts."""
        ctx = self.ctx
        run_all(
            ctx,
            [
                partial(
                    host_lifecycle.resume if host.suspended else host_lifecycle.start,
                    ctx,
                    host.record,
                    deadline,
                )
                for host in _chosen(todo, observation.members(self.tenant, self.name))
            ],
        )
        return todo


def _members(observation: Observation, tenant: str, fleet: str) -> list[Host]:
    return sorted(observation.members(tenant, fleet), key=ordinal)


def _chosen(todo: Plan, hosts: list[Host]) -> list[Host]:
    """Return the hosts that a plan has actions for."""
    names = {action.name for action in todo.actions}
    return [host for host in hosts if host.record.name in names]
