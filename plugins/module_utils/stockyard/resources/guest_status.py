# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of guests as their agents report it: identity, volumes that wait for a key, and the
clock.

All agents get one message each, in parallel. A guest that was suspended or saved, or whose
hypervisor slept, is behind in time: it refuses certificates that were issued since then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from ..clock import Deadline
from ..errors import GuestError, StockyardError
from ..guest.client import Guest
from ..model.host import Host, HostRecord
from .context import Context
from .failures import of_host

# Seconds that a guest's clock may differ from the controller's, beyond the duration of the message.
# On a busy machine a fork reads its given time seconds late; certificates are valid from five
# minutes ago.
LIMIT = 10.0
CLOCK = "clock corrections"
# Seconds for an agent to answer.
PATIENCE = 5.0
AT_ONCE = 16


@dataclass(frozen=True)
class Status:
    """The answer of one agent.

    :param uuid: the host that its disk belongs to; empty for none.
    :param missing: the paths of volumes whose keys the host waits for.
    :param ahead: how many seconds its clock is ahead, less than zero if it is behind; ``None`` if
        the agent cannot report it.
    """

    uuid: str = ""
    missing: tuple[str, ...] = ()
    ahead: float | None = None

    @property
    def clock(self) -> str:
        """Return why the guest's clock must be set; an empty string if it is right or not known."""
        if self.ahead is None or abs(self.ahead) <= LIMIT:
            return ""
        return f"its clock is {abs(self.ahead):.1f} s {'ahead' if self.ahead > 0 else 'behind'}"


def read_status(ctx: Context, guest: Guest) -> Status:
    """Ask an agent for its status."""
    start_time = ctx.clock.now()
    hello = guest.hello(start_time)
    ahead = None if hello.ahead is None else beyond(hello.ahead, ctx.clock.now() - start_time)
    return Status(hello.uuid, hello.missing, ahead)


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


def correct(ctx: Context, record: HostRecord, status: Status, guest: Guest) -> None:
    """Set a guest's clock if it is wrong.

    :raises GuestError: if it is still wrong afterwards.
    """
    if ctx.provider.capabilities.sets_clocks:
        return
    if not guest.supports(CLOCK):
        _correct_by_hypervisor(ctx, record)
        return
    if not status.clock:
        return
    guest.set_clock(ctx.clock.now())
    if read_status(ctx, guest).clock:
        raise GuestError(
            "the guest's clock cannot be set.", name=record.title, remedy="replace the host"
        )
    ctx.progress(f"{record.title}: clock set ({status.clock})")


def synchronize(ctx: Context, record: HostRecord, deadline: Deadline) -> None:
    """Set the clock of a running host if it is wrong."""
    if ctx.provider.capabilities.sets_clocks:
        return
    with of_host(record.title), ctx.guest(record, deadline) as guest:
        correct(ctx, record, read_status(ctx, guest), guest)


def _status(ctx: Context, record: HostRecord) -> Status | None:
    deadline = ctx.deadline(PATIENCE)
    try:
        with of_host(record.title), ctx.guest(record, deadline) as guest:
            status = read_status(ctx, guest)
        return status if guest.supports(CLOCK) else _by_hypervisor(ctx, record, status)
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
    return replace(status, ahead=beyond(ahead, ctx.clock.now() - start_time))


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
