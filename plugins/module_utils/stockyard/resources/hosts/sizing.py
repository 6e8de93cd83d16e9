# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The size of running hosts: plugging in and unplugging, and telling the guest about it."""

from __future__ import annotations

from dataclasses import replace

from ...clock import Deadline
from ...model.host import HostRecord, HostSpec
from ...model.size import Size, grows, larger
from ...planning.resize import desired_size
from ..context import Context
from .identity import check


def plug_in(ctx: Context, record: HostRecord, deadline: Deadline) -> bool:
    """Plug in the resources of a host beyond its template: a machine starts with the template's
    only.
    """
    if record.size == record.template_size or not record.template_size.vcpus:
        return False
    ctx.provider.resize(record, record.size, deadline)
    return True


def resize(ctx: Context, record: HostRecord, spec: HostSpec, deadline: Deadline) -> HostRecord:
    """Resize a running host to its declaration. Its pool admits the new size before the host grows.

    :raises PoolQuotaExceeded: if its pool lacks the capacity.
    """
    before, after = record.size, desired_size(spec, record.template_size)
    if grows(before, after):
        record = ctx.provider.claim(record, size=larger(before, after))
    try:
        ctx.provider.resize(record, after, deadline)
        refresh_limits(ctx, record, after, deadline)
    except BaseException:
        # The claimed size counts until the next run: more may be promised than the host has, never
        # less.
        ctx.progress(f"{record.title}: resize failed")
        raise
    ctx.progress(f"{record.title}: resized to {after.vcpus} vCPUs and {after.memory_mib} MiB")
    new_spec = replace(record.spec, vcpus=spec.vcpus, memory_mib=spec.memory_mib)
    return ctx.provider.claim(record, size=after, spec=new_spec)


def refresh_limits(ctx: Context, record: HostRecord, size: Size, deadline: Deadline) -> None:
    """Make the guest recompute its limits, which are percentages of its current memory."""
    with ctx.guest(record, deadline) as guest:
        check(ctx, record, guest)
        if guest.supports("limits after a resize"):
            guest.refresh_limits(size.memory_mib)
