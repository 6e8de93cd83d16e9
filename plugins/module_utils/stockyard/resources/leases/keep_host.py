# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host of a failed job, kept for a time after the job.

The host is branched: the child has its memory, disk and containers, and is suspended under a name
of its own, so the host itself can be deleted and replaced. Where a host cannot be branched, the
host itself is suspended, and its lease continues. A host with an encrypted volume is shut down.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...clock import Deadline
from ...errors import OperationRefused, StockyardError
from ...model.branch import BranchSpec
from ...model.fleet import SingleSpec
from ...model.host import SUSPENDED, HostRecord
from ..context import Context
from ..fleets.branch_host import HostBranching
from ..fleets.single_host import SingleHostConvergence
from ..volumes import attachment
from . import lease_lifecycle
from .child_leases import lease_child

KEPT = "kept"
# Characters of the name of a host.
NAME_MAX = 63


@dataclass(frozen=True)
class KeptHost:
    """A host that is kept.

    :param record: its record; its lease ends when it is deleted.
    :param separate: whether it is another host than that of the job.
    """

    record: HostRecord
    separate: bool


def keep(ctx: Context, lease: str, duration: float, deadline: Deadline) -> KeptHost:
    """Keep the host of a lease for a time, suspended; a host with keys in its memory is shut down.
    The holder has a lease of the kept host.

    :param duration: seconds.
    :raises LeaseExpired: if the lease has ended.
    :raises OperationRefused: if an earlier state of the host is kept already.
    :raises StockyardError: if the host cannot be suspended.
    """
    record = lease_lifecycle.renew(ctx, lease, duration)
    name, separate = _branch(ctx, record, lease, duration, deadline), True
    if not name:
        name, separate = record.name, False
    spec = SingleSpec(name, tenant=record.tenant)
    try:
        SingleHostConvergence(ctx, spec, SUSPENDED, force=True, shut_down=True).apply(deadline)
    except StockyardError:
        if separate:
            SingleHostConvergence(ctx, spec, "absent").apply(deadline)
        raise
    host = ctx.provider.observe(ctx.owner).host(record.tenant, name)
    if host is None:
        raise AssertionError("a host that was just suspended exists")
    return KeptHost(host.record, separate)


def _branch(
    ctx: Context, record: HostRecord, lease: str, duration: float, deadline: Deadline
) -> str:
    """Branch the host of a lease; return the name of the child, or an empty string if the host
    cannot be branched.
    """
    if attachment.held_by(ctx, record):
        # Copies of its volumes would stay when the kept host is deleted.
        ctx.progress(f"{record.title}: not branched, because it has volumes: it is kept itself")
        return ""
    name = f"{record.name[: NAME_MAX - 14]}-{KEPT}-{lease[:8]}"
    spec = BranchSpec(
        record.name,
        (name,),
        tenant=record.tenant,
        labels={**record.labels, KEPT: "failed"},
        ttl=duration,
        lease=lease,
        allow_hostile=True,
    )
    try:
        todo = HostBranching(ctx, spec, lease_child).apply(deadline)
    except StockyardError as error:
        ctx.progress(f"{record.title}: not branched, so the host itself is kept: {error}")
        return ""
    if not todo:
        raise OperationRefused(
            "an earlier state of the host is kept already.",
            name=record.title,
            cause=f"it is host {name}",
            remedy=f"delete host {name}, and run again",
        )
    return name
