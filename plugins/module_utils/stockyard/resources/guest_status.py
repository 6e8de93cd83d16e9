# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of guests as their agents report it: identity, volumes that wait for a key, and the
clock.

All agents get one message each, in parallel. A guest that was suspended or saved, or whose
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

# Seconds that a guest's clock may differ from the controller's, beyond the duration of the message.
# On a busy machine a fork reads its given time seconds late; certificates are valid from five
# minutes ago.
LIMIT = 10.0
# The first agent that reads and sets its clock.
CLOCK = 5
# Seconds for an agent to answer.
PATIENCE = 5.0
AT_ONCE = 16


@dataclass(frozen=True)
class Status:
    """The answer of one agent.

    :param agent: the version of the agent.
    :param uuid: the host that its disk belongs to; empty for none.
    :param missing: the paths of volumes whose keys the host waits for.
    :param ahead: how many seconds its clock is ahead, less than zero if it is behind; ``None`` if
        the agent cannot report it.
    """

    agent: int = 0
    uuid: str = ""
    missing: tuple[str, ...] = ()
    ahead: float | None = None

    @property
    def clock(self) -> str:
        """Return why the guest's clock must be set; an empty string if it is right or not known."""
        if self.ahead is None or abs(self.ahead) <= LIMIT:
            return ""
        return f"its clock is {abs(self.ahead):.1f} s {'ahead' if self.ahead > 0 else 'behind'}"


def greet(ctx: Context, channel: Channel, deadline: Deadline) -> Status:
    """Ask an agent for its status."""
    start_time = ctx.clock.now()
    reply = channel.request({"op": "hello", "time": start_time}, deadline)
    agent, uuid, missing = reply.get("agent"), reply.get("uuid"), reply.get("missing")
    ahead: Any = reply.get("ahead")
    return Status(
        agent if isinstance(agent, int) else 0,
        uuid if isinstance(uuid, str) else "",
        tuple(one_line(path, 200) for path in missing[:16]) if isinstance(missing, list) else (),
        beyond(float(ahead), ctx.clock.now() - start_time) if _is_number(ahead) else None,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def beyond(ahead: float, elapsed: float) -> float:
    """Return a clock difference without the part that the duration of the message explains."""
    return min(ahead, 0.0) or max(ahead - elapsed, 0.0)


def statuses(ctx: Context, hosts: Iterable[Host]) -> dict[str, Status]:
    """Return the status of running hosts, by uuid. Hosts whose agents do not answer are omitted."""
    own_clocks = ctx.provider.capabilities.sets_clocks
    records = [
        host.record for host in hosts if host.serving and (host.record.encrypted or not own_clocks)
    ]
    if not records:
        return {}
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        answers = list(pool.map(lambda record: _status(ctx, record), records))
    return {record.uuid: status for record, status in zip(records, answers, strict=True) if status}


def skewed(hosts: Iterable[Host], answers: Mapping[str, Status]) -> dict[str, str]:
    """Return the hosts whose clocks must be set, by uuid, each with the reason."""
    reasons = {
        host.record.uuid: answers[host.record.uuid].clock
        for host in hosts
        if host.record.uuid in answers
    }
    return {uuid: reason for uuid, reason in reasons.items() if reason}


def correct(
    ctx: Context, record: HostRecord, status: Status, channel: Channel, deadline: Deadline
) -> None:
    """Set a guest's clock if it is wrong.

    :raises GuestError: if it is still wrong afterwards.
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
    ctx.progress(f"{record.title}: clock set ({status.clock})")


def synchronize(ctx: Context, record: HostRecord, deadline: Deadline) -> None:
    """Set the clock of a running host if it is wrong."""
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
    """Return the status of an agent that cannot read its clock, with the hypervisor's reading of
    it.
    """
    clock = ctx.provider.guest_clock
    if clock is None or ctx.provider.capabilities.sets_clocks:
        return status
    start_time = ctx.clock.now()
    try:
        ahead = clock.ahead(record, start_time)
    except StockyardError:
        return status
    return Status(
        status.agent, status.uuid, status.missing, beyond(ahead, ctx.clock.now() - start_time)
    )


def _correct_by_hypervisor(ctx: Context, record: HostRecord) -> None:
    """Set the clock of a guest through the hypervisor, if its agent cannot. A guest that does not
    answer keeps its clock, with a warning.
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
            ctx.progress(f"{record.title}: warning: the clock could not be set: {error}")
            return
    ctx.progress(f"{record.title}: clock set ({status.clock})")
