# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers of leases: a new one, the host of one, and whether a yard ever gave one."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from ...errors import LeaseExpired, NotFound
from ...model.host import HostRecord
from ...model.lease import Lease, is_issued, lease_id
from ...model.observation import Observation
from ..context import Context

# As many characters as a number has.
SHOWN = 36


def draw(ctx: Context) -> str:
    """Return the number of a new lease of this yard."""
    return lease_id(uuid.uuid4(), _yard(ctx))


def find(lease: str, seen: Observation) -> HostRecord | None:
    """Return the host of a lease."""
    return next(
        (h.record for h in seen.hosts if h.record.lease and h.record.lease.id == lease), None
    )


def check(ctx: Context, lease: str) -> None:
    """Refuse the number of a lease that this yard never gave.

    :raises NotFound: naming the yard.
    """
    if not is_issued(lease, _yard(ctx)):
        raise NotFound(
            "no lease of this yard has this number.",
            name=f"lease {lease[:SHOWN]}",
            cause=f"owner {ctx.owner} on {ctx.provider.uri} never gave it",
            remedy="compare it with the list of leases, and name the owner and the hypervisor that "
            "it was taken from",
        )


def over(ctx: Context, lease: str) -> LeaseExpired:
    """Return the error that says that a lease has ended.

    :raises NotFound: if this yard never gave the number.
    """
    check(ctx, lease)
    return ended(lease, None)


def ended(lease: str, held: Lease | None) -> LeaseExpired:
    """Return the error that says when a lease ended.

    :param held: the lease on record; ``None`` if its host is deleted.
    """
    when = (
        f"it ended at {datetime.fromtimestamp(held.until, UTC):%Y-%m-%d %H:%M:%S} UTC"
        if held
        else "no host has it"
    )
    return LeaseExpired(
        "the lease is over.", name=f"lease {lease}", cause=when, remedy="take another"
    )


def _yard(ctx: Context) -> str:
    return f"{ctx.owner} {ctx.provider.site}"
