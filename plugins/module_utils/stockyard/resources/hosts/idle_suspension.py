# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The suspension of hosts that no user needs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from ...clock import Deadline
from ...errors import Conflict, NotFound, StockyardError
from ...model.host import Host
from .. import guest_status
from ..context import Context
from ..volumes import encryption
from . import host_lifecycle, idleness, suspension


def suspendable(
    ctx: Context, title: str, tenant: str, hosts: Iterable[Host], duration: float
) -> list[Host]:
    """Return the idle hosts that can be suspended. A progress line says why others cannot.

    :param title: the fleet, in messages.
    :param duration: seconds after which a host is idle; 0 for never.
    """
    idle_hosts = [
        host for host in idleness.idle(ctx, tenant, hosts, duration) if not _has_keys(ctx, host)
    ]
    try:
        suspension.check(ctx, [host.record for host in idle_hosts])
    except StockyardError as error:
        ctx.progress(f"{title}: idle hosts are not suspended: {error}")
        return []
    return idle_hosts


def suspend_fleet(
    ctx: Context, tenant: str, fleet: str, duration: float, deadline: Deadline
) -> list[str]:
    """Suspend the idle hosts of a fleet; return their names.

    :param duration: seconds after which a host is idle.
    :raises Busy: if another controller works on the fleet.
    """
    with ctx.provider.exclusive(ctx.lock_name("fleet", tenant, fleet), ctx.deadline(0.0)):
        members = ctx.provider.observe(ctx.owner).members(tenant, fleet)
        locked_names = encryption.locked(members, guest_status.statuses(ctx, members))
        hosts = [host for host in members if host.record.name not in locked_names]
        names = []
        for host in suspendable(ctx, f"fleet {fleet}", tenant, hosts, duration):
            with suppress(Conflict, NotFound):
                host_lifecycle.suspend(ctx, host.record, deadline, idle=True)
                names.append(host.record.name)
        return names


def _has_keys(ctx: Context, host: Host) -> bool:
    """Return whether a key in the memory of an idle host prevents its suspension; report it."""
    reason = suspension.reason_of_keys(ctx, host.record)
    if reason:
        ctx.progress(f"{host.record.title}: idle, but not suspended: {reason}")
    return bool(reason)
