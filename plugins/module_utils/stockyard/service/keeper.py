# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One pass over a yard: what cron did, by the times and numbers that are on record.

The daemon keeps no state that matters. Each pass begins with an observation, and each change is
made under the lock of its object, as any other controller makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from ..errors import Busy, StockyardError, joined
from ..model.fleet_terms import FleetTerms
from ..model.host import Host
from ..model.lease import LeaseSpec
from ..model.observation import Observation
from ..model.service import ServiceSpec
from ..planning import lease_policy, retention
from ..resources.context import Context
from ..resources.hosts import idle_suspension
from ..resources.leases import waiting
from ..resources.leases.host_supply import HostSupply
from ..resources.operation import run
from ..resources.yard.reap_yard import YardReaping
from .stoppable_clock import Stopped

HOLDER = "stockyard serve"
# Seconds for the creation of hosts, and for the deletion of all expired objects.
PATIENCE = 600.0
# Seconds between two examinations of idle hosts: each asks Docker in a host.
IDLE_INTERVAL = 60.0
# The shortest time between two passes, in seconds.
SHORTEST = 0.2
Fleet = tuple[str, str]


@dataclass
class Keeper:
    """The order of a yard: spares, expired hosts, idle hosts and orphaned objects.

    :param problems: why the last pass could not create the missing hosts of fleets.
    """

    ctx: Context
    spec: ServiceSpec
    problems: list[str] = field(default_factory=list)
    _supplies: dict[Fleet, HostSupply] = field(default_factory=dict)
    _terms: dict[Fleet, FleetTerms] = field(default_factory=dict)
    _next_reaping: float = 0.0
    _next_idle_check: float = 0.0

    def run_pass(self) -> float:
        """Keep the yard once; return the seconds until the next pass.

        :raises StockyardError: if a part failed; all other parts were done.
        """
        self.problems.clear()
        observation = self.ctx.provider.observe(self.ctx.owner)
        errors: list[StockyardError] = []
        steps: tuple[Callable[[Observation], None], ...] = (
            self._supply,
            self._reap,
            self._suspend,
        )
        for step in steps:
            try:
                step(observation)
            except Busy as error:
                self.ctx.progress(str(error))
            except StockyardError as error:
                errors.append(error)
        if errors:
            raise _joined(errors)
        return self._pause(self.ctx.provider.observe(self.ctx.owner))

    def _supply(self, observation: Observation) -> None:
        """Create the missing hosts of each fleet."""
        fleets = {
            (host.record.tenant, host.record.fleet)
            for host in observation.hosts
            if host.record.fleet and host.record.fleet_terms
        }
        emptied = {fleet for fleet, supply in self._supplies.items() if supply.restores}
        self._for_each(
            sorted(fleets | emptied), lambda fleet: self._supply_fleet(fleet, observation)
        )

    def _for_each(self, fleets: Iterable[Fleet], step: Callable[[Fleet], None]) -> None:
        """Run a step for each fleet; a fleet that is locked or fails does not prevent the others.

        :raises StockyardError: if the step failed for a fleet.
        """
        errors: list[StockyardError] = []
        for fleet in fleets:
            try:
                step(fleet)
            except Stopped:
                raise
            except Busy as error:
                self.ctx.progress(str(error))
            except StockyardError as error:
                errors.append(error)
        if errors:
            raise _joined(errors)

    def _supply_fleet(self, fleet: Fleet, observation: Observation) -> None:
        tenant, name = fleet
        members = observation.members(tenant, name)
        supply = self._supplies.setdefault(
            fleet,
            HostSupply(self.ctx, LeaseSpec(HOLDER, name, tenant), purpose="missing hosts"),
        )
        # The connection of the last pass can be closed.
        supply.ctx = self.ctx
        if members:
            supply.learn(observation)
            # A fleet that another controller deletes is not created again.
            supply.restores = False
            self._terms[fleet] = terms_of(members) or FleetTerms(0)
        incomplete = any(host.record.phase == "creating" for host in members)
        if incomplete or self._count_missing(fleet, observation) > 0:
            supply.create(partial(self._count_missing, fleet), self.ctx.deadline(PATIENCE))
            if supply.failed:
                self.problems.append(f"fleet {name}: no host was created: {supply.problem}")

    def _count_missing(self, fleet: Fleet, observation: Observation) -> int:
        """Return the number of hosts that a fleet lacks by its terms and for leases that wait."""
        ctx, current_time = self.ctx, self.ctx.clock.now()
        members = [host for host in observation.members(*fleet) if not self._is_expired(host)]
        terms = terms_of(members) or self._terms[fleet]
        leased = sum(lease_policy.is_held(host.record, current_time) for host in members)
        missing = max(terms.count, leased + terms.min_ready) - len(members)
        tenant, name = fleet
        queue = waiting.queue_of(ctx, LeaseSpec(HOLDER, name, tenant))
        requests = ctx.provider.queues.length(queue, current_time)
        return max(missing, requests - self._count_free(tenant, members))

    def _count_free(self, tenant: str, members: list[Host]) -> int:
        authority, current_time = (
            self.ctx.pki(tenant).existing_authority(),
            self.ctx.clock.now(),
        )
        fingerprint = authority.fingerprint if authority else ""
        return sum(not lease_policy.why_not(host, fingerprint, current_time) for host in members)

    def _is_expired(self, host: Host) -> bool:
        return bool(lease_policy.deletion_reason(host.record, self.ctx.clock.now()))

    def _reap(self, _observation: Observation) -> None:
        """Delete expired hosts, and search for orphaned objects from time to time."""
        ctx, spec = self.ctx, self.spec
        current_time = ctx.clock.now()
        # The step before has deleted the expired hosts of fleets that grow.
        observation = ctx.provider.observe(ctx.owner)
        is_due = ctx.clock.monotonic() >= self._next_reaping
        if not is_due and not retention.hosts(observation, current_time, spec.grace):
            return
        run(YardReaping(ctx, spec.grace), check=False, timeout=PATIENCE)
        if is_due:
            self._next_reaping = ctx.clock.monotonic() + spec.reap_interval

    def _suspend(self, _observation: Observation) -> None:
        """Suspend the hosts that were idle for the time that is on record."""
        ctx = self.ctx
        if ctx.clock.monotonic() < self._next_idle_check:
            return
        self._next_idle_check = ctx.clock.monotonic() + IDLE_INTERVAL
        durations: dict[Fleet, float] = {}
        for host in ctx.provider.observe(ctx.owner).hosts:
            terms = host.record.fleet_terms
            if terms and terms.suspend_after and host.serving and not host.record.lease:
                durations[host.record.tenant, host.record.fleet] = terms.suspend_after

        def suspend(fleet: Fleet) -> None:
            idle_suspension.suspend_fleet(ctx, *fleet, durations[fleet], ctx.deadline(PATIENCE))

        self._for_each(sorted(durations), suspend)

    def _pause(self, observation: Observation) -> float:
        """Return the seconds until the next lease or host expires, at most the interval."""
        current_time = self.ctx.clock.now()
        ends = [
            host.record.lease.until if host.record.lease else host.record.expires
            for host in observation.hosts
        ]
        remaining = [end - current_time for end in ends if end > current_time]
        return max(SHORTEST, min([self.spec.interval, *remaining]))


def _joined(errors: list[StockyardError]) -> StockyardError:
    return errors[0] if len(errors) == 1 else joined("several steps failed.", errors)


def terms_of(members: list[Host]) -> FleetTerms | None:
    """Return the smallest terms on record: a run that lowers them changes one host after the
    other.

    The first run of a fleet that was killed left only incomplete hosts, which have its terms too. A
    fleet that is being deleted has none.
    """
    phases = {host.record.phase for host in members}
    phase = "creating" if phases == {"creating"} else "ready"
    terms = [
        host.record.fleet_terms
        for host in members
        if host.record.fleet_terms and host.record.phase == phase
    ]
    return min(terms, key=lambda item: (item.count, item.min_ready), default=None)
