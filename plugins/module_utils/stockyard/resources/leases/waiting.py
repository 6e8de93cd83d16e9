# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that wait for a host: first come, first served, on any controller.

A request waits in a queue on the hypervisor. It takes a host only if more hosts are free than
requests are ahead of it, so that requests which come later never overtake it. The first request of
a queue also creates the hosts that its queue needs, see :mod:`.host_supply`.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from ...clock import Deadline
from ...model import codec
from ...model.host import HostRecord
from ...model.lease import LeaseSpec
from ...model.observation import Observation
from ..context import Context
from .host_supply import HostSupply

# Seconds between two attempts of the first request; the pauses of others are longer.
POLL = 0.5
LONGEST_POLL = 5.0
NAME_LENGTH = 24


class Search(Protocol):
    """The search for a free host.

    :param failures: why no host was leased.
    """

    failures: list[str]

    def take(self, observation: Observation, ahead: int) -> HostRecord | None:
        """Lease a host if more hosts are free than requests are ahead."""

    def free(self, observation: Observation) -> int:
        """Return the number of free hosts that can be leased."""


def queue_of(ctx: Context, spec: LeaseSpec) -> str:
    """Return the name of the queue of a request: requests for the same hosts have one queue."""
    hosts = [spec.tenant, spec.fleet, spec.pool, sorted(spec.labels.items())]
    digest = hashlib.sha256(codec.dumps(hosts).encode()).hexdigest()
    return f"{ctx.owner}.queue.{digest[:NAME_LENGTH]}"


def wait(ctx: Context, spec: LeaseSpec, search: Search, deadline: Deadline) -> HostRecord | None:
    """Wait in the queue for a host, and lease it; return ``None`` at the deadline."""
    queue, supply, reported_ahead = queue_of(ctx, spec), HostSupply(ctx, spec), -1

    def count_missing(observation: Observation) -> int:
        waiting = ctx.provider.queues.length(queue, ctx.clock.now())
        return max(1, waiting) - search.free(observation)

    with ctx.provider.queues.join(queue, deadline) as ticket:
        while True:
            ahead = ticket.ahead()
            if ahead != reported_ahead:
                ctx.progress(f"{spec.title}: waiting for a host; {_requests(ahead)}")
                reported_ahead = ahead
            observation = ctx.provider.observe(ctx.owner)
            supply.learn(observation)
            record = search.take(observation, ahead)
            if record is not None:
                return record
            if deadline.passed():
                search.failures += [supply.problem] if supply.problem else []
                return None
            if ahead or not supply.create(count_missing, deadline):
                deadline.pause(min(LONGEST_POLL, POLL * (1 + ahead // 4)))


def _requests(ahead: int) -> str:
    if not ahead:
        return "no request is ahead"
    return f"{ahead} request{'s are' if ahead > 1 else ' is'} ahead"
