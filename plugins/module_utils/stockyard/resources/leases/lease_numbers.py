# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers of leases: creation, the host of a number, and proof that a yard issued it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from ...errors import LeaseExpired, NotFound
from ...model.host import HostRecord
from ...model.lease import Lease, is_issued, lease_id
from ...model.observation import Observation
from ..context import Context

# The length of a number in characters.
SHOWN = 36


def draw(ctx: Context) -> str:
    """Return the number of a new lease of this yard."""
    return lease_id(uuid.uuid4(), _yard(ctx))


def find_record(lease: str, observation: Observation) -> HostRecord | None:
    """Return the record of a lease's host."""
    return next(
        (
            host.record
            for host in observation.hosts
            if host.record.lease and host.record.lease.id == lease
        ),
        None,
    )


def check(ctx: Context, lease: str) -> None:
    """Refuse the number of a lease that this yard never issued.

    :raises NotFound: naming the yard.
    """
    if not is_issued(lease, _yard(ctx)):
        raise NotFound(
            "the yard has no lease with this number.",
            name=f"lease {lease[:SHOWN]}",
            cause=f"owner {ctx.owner} on {ctx.provider.uri} did not grant this lease",
            remedy="compare the number with the list of leases, and set the owner and the "
            "hypervisor of the lease",
        )


def expired_error(ctx: Context, lease: str) -> LeaseExpired:
    """Return the error for a lease that has ended.

    :raises NotFound: if this yard never issued the number.
    """
    check(ctx, lease)
    return ended(lease, None)


def ended(lease: str, lease_record: Lease | None) -> LeaseExpired:
    """Return the error with the time at which a lease ended.

    :param lease_record: the lease on record; ``None`` if its host is deleted.
    """
    cause = (
        f"it ended at {datetime.fromtimestamp(lease_record.until, UTC):%Y-%m-%d %H:%M:%S} UTC"
        if lease_record
        else "no host has this lease"
    )
    return LeaseExpired(
        "the lease has expired.", name=f"lease {lease}", cause=cause, remedy="request another lease"
    )


def _yard(ctx: Context) -> str:
    return f"{ctx.owner} {ctx.provider.site}"
