# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases of children: the holder of a branched host also has its children."""

from __future__ import annotations

from ...model.host import HostRecord
from ...model.lease import Lease
from ..context import Context
from . import lease_lifecycle, lease_numbers


def lease_child(ctx: Context, parent: HostRecord, child: HostRecord) -> HostRecord:
    """Lease a reserved child to the holder of its parent, until the lease of the parent ends.

    Each child has its own number and its own certificate.
    """
    if parent.lease is None:
        return child
    number, until = lease_numbers.draw(ctx), parent.lease.until
    lease = Lease(number, parent.lease.holder, ctx.clock.now(), until, "")
    return lease_lifecycle.grant(ctx, child, lease)
