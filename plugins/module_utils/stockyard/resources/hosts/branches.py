# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Branches of hosts: which hosts can be branched, and how."""

from __future__ import annotations

from ...clock import Deadline
from ...errors import OperationRefused, Unsupported
from ...hypervisor.branch_store import BranchStore
from ...model.branch import BranchRecord
from ...model.host import Host
from ...model.template import TemplateRecord
from ..context import Context


def store(ctx: Context, title: str) -> BranchStore:
    """Return the store of the hypervisor's branches.

    :raises Unsupported: if hosts of the hypervisor cannot be branched.
    """
    if ctx.provider.branches is None:
        raise Unsupported(
            "Hosts of this hypervisor cannot be branched.",
            name=title,
            remedy="use qemu:///session or qemu:///system",
        )
    return ctx.provider.branches


def check(ctx: Context, parent: Host) -> None:
    """Refuse a parent that cannot be branched, as far as its record shows.

    :raises StockyardError: with the reason.
    """
    record = parent.record
    store(ctx, record.title)
    if not parent.serving:
        raise OperationRefused(
            "Only a ready and running host can be branched.",
            name=record.title,
            cause=f"its phase is {record.phase}, its machine is {parent.state}",
            remedy="start the host, and run again",
        )
    if record.lease:
        raise OperationRefused(
            "A leased host cannot be branched: the children would contain the holder's data.",
            name=record.title,
            cause=f"its holder is {record.lease.holder}",
            remedy="end the lease, or branch another host",
        )
    if record.spec.volumes:
        raise Unsupported(
            "A host with volumes cannot be branched.",
            name=record.title,
            remedy="detach its volumes, and run again",
        )


def freeze(
    ctx: Context, parent: Host, template: TemplateRecord, deadline: Deadline
) -> BranchRecord:
    """Freeze the state of a running host, which continues.

    :param template: the template of the host.
    """
    check(ctx, parent)
    start, title = ctx.clock.monotonic(), parent.record.title
    branch = store(ctx, title).create(parent.record, template, ctx.clock.now(), deadline)
    ctx.progress(
        f"{title}: branched, stopped for {branch.pause_ms:.0f} ms "
        f"({ctx.clock.monotonic() - start:.2f} s)"
    )
    return branch
