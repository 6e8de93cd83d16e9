# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts for leases that wait: added to a fleet up to its largest size and the quota of its pool.

The size and the declaration of a fleet are on the records of its hosts. A request remembers them,
so that it can create a host after the last one was deleted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from ...clock import Deadline
from ...errors import Busy, StockyardError
from ...model import naming
from ...model.host import Host, HostRecord, host_domain
from ...model.lease import LeaseSpec
from ...model.observation import Observation
from ...planning import lease_policy
from ...planning.plan import Action, Plan
from ..context import Context
from ..fleets.preflight import check_creatable
from ..fleets.rollout import run_all
from ..hosts import access, host_lifecycle, reservation, trust
from ..pools import pool_lifecycle
from ..templates import build_template
from ..volumes import declared

# Seconds between two attempts after a failure.
RETRY = 5.0
# Seconds after which an unfinished deletion counts as interrupted.
DELETION_PATIENCE = 60.0


@dataclass
class HostSupply:
    """The creation of hosts for the requests of one queue.

    :param problem: the reason why no host was created last; empty if there is none.
    :param failed: whether the reason is a failure, and not a limit or another controller.
    :param purpose: the noun of the missing hosts' users, in messages.
    :param restores: whether to create hosts in a fleet without any host. It is so if this object
        deleted the last host of the fleet.
    """

    ctx: Context
    spec: LeaseSpec
    problem: str = ""
    failed: bool = False
    purpose: str = "leases that wait"
    restores: bool = True
    _models: dict[str, HostRecord] = field(default_factory=dict)
    _deletions: dict[str, float] = field(default_factory=dict)
    _next_attempt: float = 0.0

    def learn(self, observation: Observation) -> None:
        """Remember the newest host of each fleet that the request allows: new hosts are like it."""
        hosts = [
            host.record
            for host in lease_policy.asked_for(self.spec, observation.hosts)
            if host.record.fleet_max and not host.record.branch
        ]
        for record in sorted(hosts, key=lambda record: record.created):
            self._models[record.fleet] = record

    def create(self, count_missing: Callable[[Observation], int], deadline: Deadline) -> bool:
        """Create hosts for the requests that wait, as far as a fleet has room for them.

        :param count_missing: returns the number of missing hosts.
        :return: whether hosts were created.
        """
        if self.ctx.clock.monotonic() < self._next_attempt:
            return False
        self.problem, self.failed = "", False
        return any(
            self._create_in(model, count_missing, deadline)
            for _fleet, model in sorted(self._models.items())
        )

    def _create_in(
        self, model: HostRecord, count_missing: Callable[[Observation], int], deadline: Deadline
    ) -> bool:
        lock = self.ctx.lock_name("fleet", model.tenant, model.fleet)
        try:
            with self.ctx.provider.exclusive(lock, self.ctx.deadline(0.0)):
                return self._create_locked(model, count_missing, deadline)
        except Busy:
            self.problem = f"fleet {model.fleet} is locked by another controller"
        except StockyardError as error:
            self.problem, self.failed = str(error), True
            self._next_attempt = self.ctx.clock.monotonic() + RETRY
            self.ctx.progress(f"fleet {model.fleet}: no host was created: {error}")
        return False

    def _create_locked(
        self, model: HostRecord, count_missing: Callable[[Observation], int], deadline: Deadline
    ) -> bool:
        ctx, tenant = self.ctx, model.tenant
        observation = ctx.provider.observe(ctx.owner)
        members = observation.members(tenant, model.fleet)
        if not (members or self.restores):
            return False
        if self._delete_useless(members):
            observation = ctx.provider.observe(ctx.owner)
            members = observation.members(tenant, model.fleet)
            self.restores = self.restores or not members
        model = self._with_limit(model, members)
        missing = count_missing(observation)
        template = build_template.get_current(tenant, model.template, observation)
        room = pool_lifecycle.remaining_hosts(observation, tenant, model.spec, template)
        free_places = max(0, model.fleet_max - len(members))
        count = min(missing, free_places, free_places if room is None else room)
        if count <= 0:
            if not free_places:
                self.problem = (
                    f"fleet {model.fleet} has {len(members)} of at most {model.fleet_max} hosts"
                )
            elif room == 0:
                self.problem = f"pool {model.spec.pool} has no quota for another host"
            return False
        names = self._new_names(model, count, observation)
        reason = f"for {missing} {self.purpose}"
        todo = Plan(tuple(Action("create", "host", name, reason, {}, {}) for name in names))
        check_creatable(ctx, tenant, model.spec, todo, observation, template)
        declared.validate_plan(ctx, tenant, model.template, model.spec, todo, observation)
        ctx.progress(
            f"fleet {model.fleet}: creating {count} hosts for {missing} {self.purpose}; it has "
            f"{len(members)} of at most {model.fleet_max}"
        )
        trust.prepare(ctx, tenant, observation.hosts)
        try:
            run_all(
                ctx,
                [
                    partial(
                        host_lifecycle.create_host,
                        ctx,
                        replace(reservation.request_like(model), name=name),
                        template,
                        deadline,
                    )
                    for name in names
                ],
            )
        finally:
            access.sync_known_hosts(ctx, tenant)
        return True

    def _delete_useless(self, members: list[Host]) -> bool:
        """Delete the hosts whose lease has expired, and incomplete ones, as each run of the fleet
        does; return whether there were any. Their places are free then.
        """
        ctx, current_time = self.ctx, self.ctx.clock.now()
        useless_hosts = [
            host.record
            for host in members
            if lease_policy.deletion_reason(host.record, current_time)
            or host.record.phase == "creating"
            or self._is_stuck(host.record)
        ]
        for record in useless_hosts:
            host_lifecycle.delete_unless_leased(
                ctx, record, partial(host_lifecycle.destroy, ctx, record)
            )
        return bool(useless_hosts)

    def _is_stuck(self, record: HostRecord) -> bool:
        """Return whether the deletion of a host does not end: its controller died."""
        if record.phase == "ready":
            return False
        current_time = self.ctx.clock.monotonic()
        first_time = self._deletions.setdefault(record.uuid, current_time)
        return current_time - first_time > DELETION_PATIENCE

    def _with_limit(self, model: HostRecord, members: list[Host]) -> HostRecord:
        """Return the model with the present limit of its fleet: a run that lowers the limit changes
        one host after the other.
        """
        limits = [host.record.fleet_max for host in members if host.record.phase == "ready"]
        return replace(model, fleet_max=min(limits, default=model.fleet_max))

    def _new_names(self, model: HostRecord, count: int, observation: Observation) -> list[str]:
        """Return the lowest free names of a fleet."""
        start = host_domain(self.ctx.owner, model.tenant, "")
        used_names = [
            name.removeprefix(start) for name in observation.names if name.startswith(start)
        ]
        return naming.lowest_free(model.name.rpartition("-")[0], used_names, count)
