# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease service: projects lease hosts of the yard with their tokens.

A project gets the certificate of one host for one lease, and never a key of the tenant. All state
is on the hypervisor: a repeated request of a holder returns the lease that the holder has.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from ..clients.leases import LeasesClient
from ..clock import Deadline
from ..errors import Busy, LeaseExpired, NotFound, OperationRefused, StockyardError
from ..model import naming
from ..model.host import HostRecord
from ..model.lease import LONGEST, Lease, LeaseSpec, check_duration
from ..model.lease_info import LeaseInfo
from ..model.observation import Observation
from ..planning import lease_policy
from ..resources.context import Context
from ..resources.leases import lease_lifecycle
from .projects import Project
from .stoppable_clock import StoppableClock, Stopped

# The longest wait of one request, in seconds.
WAIT_MAX = 3600.0
DURATION = 3600.0
NAME_LENGTH = 24
# Seconds that a request counts after its wait: a host can resume at its end.
RESUMING = 60.0
FILES = {"ca": "ca.pem", "certificate": "cert.pem", "key": "key.pem"}
Fields = dict[str, Any]


@dataclass(frozen=True)
class LeaseCalls:
    """The calls of one project.

    :param stop: an event that ends all waits of the daemon.
    """

    ctx: Context
    project: Project
    stop: threading.Event

    def take(
        self,
        fields: Fields,
        cancelled: threading.Event,
        is_valid: Callable[[], bool] = lambda: True,
    ) -> Fields:
        """Lease a host, or return the lease that the holder has.

        :param cancelled: an event that ends the wait: the client has left. Its new lease is then
            released.
        :param is_valid: returns whether the token is still valid after the wait. A new lease is
            released if not.
        """
        spec, wait = self._spec(fields)
        clock = StoppableClock(self.ctx.clock, self.stop, cancelled)
        leases = LeasesClient(replace(self.ctx, clock=clock))
        deadline = self.ctx.deadline(wait + RESUMING)
        with self._counted(spec, deadline):
            try:
                result = leases.ensure(spec, wait=wait)
            except Busy as error:
                # Its cause can name holders of other projects.
                raise Busy(
                    "no host is free.", name=spec.title, remedy="wait longer, or try again later"
                ) from error
            info = result.object
            is_new = any(action.verb == "lease" for action in result.plan.actions)
            if is_new and deadline.passed():
                self._check_limit(info)
            if cancelled.is_set() and is_new:
                self.release(info.id)
                raise Stopped("the client has left.", name=f"lease {info.id}")
            if not is_valid():
                if is_new:
                    self.release(info.id)
                raise OperationRefused(
                    "the token became invalid during the wait.",
                    name=f"project {self.project.name}",
                    remedy="request a new token from the operator",
                )
            return self._describe(info)

    def renew(self, lease: str, fields: Fields) -> Fields:
        """Extend a lease of the project."""
        _record, current = self._current(lease)
        duration = _number(fields, "duration", DURATION)
        check_duration(duration)
        end = current.taken + self.project.max_duration
        if self.ctx.clock.now() + duration > max(end, current.until):
            raise OperationRefused(
                f"a lease of the project ends after {self.project.max_duration:g} s at the latest.",
                name=f"lease {lease}",
                remedy="renew the lease for a shorter time, or request another lease",
            )
        return self._describe(LeasesClient(self.ctx).renew(lease, duration).object)

    def release(self, lease: str) -> Fields:
        """Release a lease of the project. A lease that has ended changes nothing.

        The daemon's next pass creates the hosts that the fleet needs, except after its last host.
        """
        leases = LeasesClient(self.ctx)
        with suppress(LeaseExpired):
            record, _current = self._current(lease)
            observation = self.ctx.provider.observe(self.ctx.owner)
            is_last = len(observation.members(record.tenant, record.fleet)) == 1
            try:
                leases.release(lease, replace=is_last or record.fleet_terms is None)
            except StockyardError as error:
                self.ctx.progress(f"lease {lease}: its host is not replaced: {error}")
                leases.release(lease)
        return {}

    def get(self, lease: str) -> Fields:
        """Return a lease of the project, with the certificate."""
        self._current(lease)
        return self._describe(LeasesClient(self.ctx).get(lease))

    def list_all(self) -> Fields:
        """Return the leases of the project, without certificates."""
        return {"leases": [_facts(info) for info in self._leases() if not info.ended]}

    def _spec(self, fields: Fields) -> tuple[LeaseSpec, float]:
        """Return the request of a project, and its longest wait.

        :raises OperationRefused: if the project cannot make the request.
        """
        project = self.project
        duration = _number(fields, "duration", min(DURATION, project.max_duration))
        wait = _number(fields, "wait", 0.0)
        spec = LeaseSpec(
            project.holder(_text(fields, "holder")),
            _text(fields, "fleet"),
            project.tenant,
            naming.labels(fields.get("labels", {})),
            duration,
            _text(fields, "pool"),
        )
        if spec.fleet not in project.fleets and spec.pool not in project.pools:
            names = [*(f"fleet {name}" for name in project.fleets)]
            names += [f"pool {name}" for name in project.pools]
            raise OperationRefused(
                "the project cannot lease these hosts.",
                name=f"project {project.name}",
                remedy=f"name {' or '.join(names) or 'no fleet'}",
            )
        if duration > project.max_duration:
            raise OperationRefused(
                f"a lease of the project has at most {project.max_duration:g} s.",
                name=f"project {project.name}",
                remedy="request a shorter lease",
            )
        if not 0 <= wait <= WAIT_MAX:
            raise OperationRefused(
                f"a request waits for at most {WAIT_MAX:g} s.", remedy="request a shorter wait"
            )
        return spec, wait

    @contextmanager
    def _counted(self, spec: LeaseSpec, deadline: Deadline) -> Iterator[None]:
        """Count the request among those of the project, on the hypervisor.

        :param deadline: the end of the time in which other requests count this one.
        :raises Busy: if the project has as many leases and requests as it can have.
        """
        ctx, project = self.ctx, self.project
        queue = queue_of(ctx, project)
        with ctx.provider.queues.join(queue, deadline) as ticket:
            # A request that is served after this count is in the observation too.
            ahead = ticket.ahead()
            observation = ctx.provider.observe(ctx.owner)
            # A repeated request returns the lease that its holder has.
            repeated = lease_lifecycle.held_by(ctx, spec, observation) is not None
            leases = len(self._held(observation)) - repeated
            if leases + ahead >= project.max_leases:
                raise Busy(
                    f"the project has {leases} leases and {ahead} requests, of at most "
                    f"{project.max_leases}.",
                    name=f"project {project.name}",
                    remedy="release a lease first",
                )
            yield

    def _check_limit(self, info: LeaseInfo) -> None:
        """Release a new lease if the project has too many: other requests did not count this one
        any more, because its host resumed slowly.

        :raises Busy: if the lease was released.
        """
        ctx, project = self.ctx, self.project
        leases = len(self._held(ctx.provider.observe(ctx.owner)))
        requests = ctx.provider.queues.length(queue_of(ctx, project), ctx.clock.now())
        if leases + requests > project.max_leases:
            self.release(info.id)
            raise Busy(
                f"the project has {leases - 1} leases and {requests} requests, of at most "
                f"{project.max_leases}.",
                name=f"project {project.name}",
                remedy="release a lease first",
            )

    def _held(self, observation: Observation) -> list[HostRecord]:
        """Return the hosts that the project has leased."""
        ctx = self.ctx
        return [
            host.record
            for host in observation.hosts
            if host.record.tenant == self.project.tenant
            and lease_policy.is_held(host.record, ctx.clock.now())
            and host.record.lease
            and self.project.owns(host.record.lease.holder)
        ]

    def _leases(self) -> list[LeaseInfo]:
        leases = LeasesClient(self.ctx).list(self.project.tenant)
        return [info for info in leases if self.project.owns(info.holder)]

    def _current(self, number: str) -> tuple[HostRecord, Lease]:
        """Return the host of a current lease of the project, and the lease.

        :raises LeaseExpired: if it has ended; also for a lease of another project.
        """
        observation = self.ctx.provider.observe(self.ctx.owner)
        for record in self._held(observation):
            if record.lease and record.lease.id == number:
                return record, record.lease
        raise LeaseExpired(
            "the project has no such lease, or the lease has expired.",
            name=f"lease {number[:36]}",
            remedy="request another lease",
        )

    def _describe(self, info: LeaseInfo) -> Fields:
        """Return a lease with the certificate of its host."""
        directory = self.ctx.pki(info.tenant).lease_directory(info.id)
        try:
            files = {name: (directory / file).read_text("ascii") for name, file in FILES.items()}
        except (OSError, ValueError) as error:
            raise NotFound(
                "the certificate of the lease is on another controller.",
                name=f"lease {info.id}",
                remedy="repeat the request for the lease",
            ) from error
        return {**_facts(info), "docker_host": info.docker.endpoint, **files}


def queue_of(ctx: Context, project: Project) -> str:
    """Return the queue in which the requests of a project are counted."""
    digest = hashlib.sha256(f"{project.tenant} {project.name}".encode()).hexdigest()
    return f"{ctx.owner}.project.{digest[:NAME_LENGTH]}"


def _facts(info: LeaseInfo) -> Fields:
    return {
        "id": info.id,
        "holder": info.holder,
        "until": info.until,
        "host": info.host,
        "fleet": info.fleet,
        "address": info.address,
    }


def _text(fields: Fields, name: str) -> str:
    return naming.line(name, fields.get(name, ""), 200)


def _number(fields: Fields, name: str, default: float) -> float:
    value = fields.get(name, default)
    # A whole number can be too large for a float.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > LONGEST:
        raise OperationRefused(
            f"{name} is not a number of seconds, at most 30 days.", remedy="send a number"
        )
    return float(value)
