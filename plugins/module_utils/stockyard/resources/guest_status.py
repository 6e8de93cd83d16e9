# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of guests as their agents report it: identity, volumes that wait for a key, and the
clock.

One message for each host, to all at the same time. A guest that was suspended, saved, or whose
hypervisor slept, is behind in time: it refuses certificates that were issued since then.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from ..clock import Deadline
from ..errors import GuestError, StockyardError
from ..escaping import one_line
from ..hypervisor.provider import Channel
from ..model.host import Host, HostRecord
from .context import Context
from .failures import of_host

# Seconds that a guest's clock may differ from the controller's, beyond the time that the message
# took. On a busy machine a fork is seconds late to read the time that it is given; certificates are
# valid from five minutes ago.
LIMIT = 10.0
# The first agent that reads and sets its clock.
CLOCK = 5
# Seconds for an agent to answer.
PATIENCE = 5.0
AT_ONCE = 16


@dataclass(frozen=True)
class Status:
    """The answer of one agent.

    :param agent: what it understands.
    :param uuid: the host that its disk is of; empty for none.
    :param missing: where it waits for the key of a volume.
    :param ahead: how many seconds its clock is ahead, less than zero if it is behind; ``None`` if
        it cannot say.
    """

    agent: int = 0
    uuid: str = ""
    missing: tuple[str, ...] = ()
    ahead: float | None = None

    @property
    def clock(self) -> str:
        """Why its clock has to be set; empty if it is right, or not known."""
        if self.ahead is None or abs(self.ahead) <= LIMIT:
            return ""
        return f"its clock is {abs(self.ahead):.1f} s {'ahead' if self.ahead > 0 else 'behind'}"


def greet(ctx: Context, channel: Channel, deadline: Deadline) -> Status:
    """Ask an agent for its status."""
    sent = ctx.clock.now()
    reply = channel.request({"op": "hello", "time": sent}, deadline)
    agent, uuid, missing = reply.get("agent"), reply.get("uuid"), reply.get("missing")
    ahead: Any = reply.get("ahead")
    return Status(
        agent if isinstance(agent, int) else 0,
        uuid if isinstance(uuid, str) else "",
        tuple(one_line(path, 200) for path in missing[:16]) if isinstance(missing, list) else (),
        beyond(float(ahead), ctx.clock.now() - sent) if _is_number(ahead) else None,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def beyond(ahead: float, elapsed: float) -> float:
    """Return a difference without the part that the way of the message explains."""
    return min(ahead, 0.0) or max(ahead - elapsed, 0.0)


def statuses(ctx: Context, hosts: Iterable[Host]) -> dict[str, Status]:
    """Return the status of hosts that run, by uuid. A host whose agent does not answer
    is left out.
    """
    own_clocks = ctx.provider.capabilities.sets_clocks
    asked = [h.record for h in hosts if h.serving and (h.record.encrypted or not own_clocks)]
    if not asked:
        return {}
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        answers = list(pool.map(lambda record: _status(ctx, record), asked))
    return {record.uuid: status for record, status in zip(asked, answers, strict=True) if status}


def skewed(hosts: Iterable[Host], answers: Mapping[str, Status]) -> dict[str, str]:
    """Return the hosts whose clocks have to be set, by uuid, each with the reason."""
    reasons = {
        h.record.uuid: answers[h.record.uuid].clock for h in hosts if h.record.uuid in answers
    }
    return {uuid: reason for uuid, reason in reasons.items() if reason}


def correct(
    ctx: Context, record: HostRecord, status: Status, channel: Channel, deadline: Deadline
) -> None:
    """Set a guest's clock, if it is not right.

    :raises GuestError: if it is not right afterwards.
    """
    if ctx.provider.capabilities.sets_clocks:
        return
    if status.agent < CLOCK:
        _correct_by_hypervisor(ctx, record)
        return
    if not status.clock:
        return
    channel.request({"op": "set-clock", "time": ctx.clock.now()}, deadline)
    if greet(ctx, channel, deadline).clock:
        raise GuestError(
            "the guest's clock cannot be set.", name=record.title, remedy="replace the host"
        )
    ctx.progress(f"{record.title}: {status.clock}: it was set")


def synchronize(ctx: Context, record: HostRecord, deadline: Deadline) -> None:
    """Set the clock of a host that runs, if it is not right."""
    if ctx.provider.capabilities.sets_clocks:
        return
    with of_host(record.title), closing(ctx.provider.channel(record, deadline)) as channel:
        correct(ctx, record, greet(ctx, channel, deadline), channel, deadline)


def _status(ctx: Context, record: HostRecord) -> Status | None:
    deadline = ctx.deadline(PATIENCE)
    try:
        with of_host(record.title), closing(ctx.provider.channel(record, deadline)) as channel:
            status = greet(ctx, channel, deadline)
        return status if status.agent >= CLOCK else _by_hypervisor(ctx, record, status)
    except StockyardError:
        return None


def _by_hypervisor(ctx: Context, record: HostRecord, status: Status) -> Status:
    """Return the status of an agent that cannot read its clock, with what the hypervisor knows of
    it.
    """
    clock = ctx.provider.guest_clock
    if clock is None or ctx.provider.capabilities.sets_clocks:
        return status
    sent = ctx.clock.now()
    try:
        ahead = clock.ahead(record, sent)
    except StockyardError:
        return status
    return Status(status.agent, status.uuid, status.missing, beyond(ahead, ctx.clock.now() - sent))


def _correct_by_hypervisor(ctx: Context, record: HostRecord) -> None:
    """Set the clock of a guest whose agent cannot. A guest that does not answer keeps its clock,
    with a warning.
    """
    clock = ctx.provider.guest_clock
    if clock is None:
        return
    status = _by_hypervisor(ctx, record, Status())
    if not status.clock:
        return
    try:
        clock.set(record, ctx.clock.now())
    except StockyardError as error:
        # qemu-guest-agent sets the clock, and then fails in a guest without hwclock.
        if _by_hypervisor(ctx, record, Status()).clock:
            ctx.progress(f"{record.title}: warning: its clock could not be set: {error}")
            return
    ctx.progress(f"{record.title}: {status.clock}: it was set")
