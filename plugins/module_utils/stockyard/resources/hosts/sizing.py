# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The size of hosts that run: giving them more, taking it back, and what in the guest has to learn
of it.
"""

from __future__ import annotations

from dataclasses import replace

from ...clock import Deadline
from ...model.host import HostRecord, HostSpec
from ...model.size import Size, grows, larger
from ...planning.resize import wanted
from ..context import Context
from .identity import check

# The first agent that answers ``recount``.
RECOUNTS = 4


def plug_in(ctx: Context, record: HostRecord, deadline: Deadline) -> bool:
    """Give a machine what its host has beyond its template; it is not part of what it
    starts with.
    """
    if record.size == record.frozen or not record.frozen.vcpus:
        return False
    ctx.provider.resize(record, record.size, deadline)
    return True


def resize(ctx: Context, record: HostRecord, spec: HostSpec, deadline: Deadline) -> HostRecord:
    """Give a running host the size that is declared. It is let in to its pool before it gets more.

    :raises PoolQuotaExceeded: when its pool has no room for more of it.
    """
    before, after = record.size, wanted(spec, record.frozen)
    if grows(before, after):
        record = ctx.provider.claim(record, size=larger(before, after))
    try:
        ctx.provider.resize(record, after, deadline)
        recount(ctx, record, after, deadline)
    except BaseException:
        # What it has got of it counts until somebody runs again: more may be promised than it has,
        # never less.
        ctx.progress(f"{record.title}: could not be resized")
        raise
    ctx.progress(f"{record.title}: has {after.vcpus} vCPUs and {after.memory_mib} MiB")
    declared = replace(record.spec, vcpus=spec.vcpus, memory_mib=spec.memory_mib)
    return ctx.provider.claim(record, size=after, spec=declared)


def recount(ctx: Context, record: HostRecord, size: Size, deadline: Deadline) -> None:
    """Have the guest count its limits in per cent of the memory that it has now."""
    channel = ctx.provider.channel(record, deadline)
    try:
        if check(ctx, record, channel, deadline).agent >= RECOUNTS:
            channel.request({"op": "recount", "memory_mib": size.memory_mib}, deadline)
    finally:
        channel.close()
