# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Branches of hosts: which hosts can be branched, and how."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from ...clock import Deadline
from ...errors import Conflict, OperationRefused
from ...guest.client import Guest
from ...model.branch import BranchRecord, BranchSpec
from ...model.host import Host, HostRecord
from ...model.template import TemplateRecord
from ...model.volume import VolumeRecord
from .. import guest_status
from ..context import Context
from ..volumes import attachment, branched, volume_lifecycle


def uuids(ctx: Context, spec: BranchSpec) -> set[str]:
    """Return the uuids of the branches of a host, by its name: the host can be deleted already."""
    return {
        record.uuid
        for record in ctx.provider.branches.all()
        if (record.owner, record.tenant, record.name) == (ctx.owner, spec.tenant, spec.host)
    }


def check(
    ctx: Context, parent: Host, spec: BranchSpec, profile: str, volumes: Sequence[VolumeRecord]
) -> None:
    """Refuse a parent that cannot be branched.

    :param profile: its security profile.
    :param volumes: the volumes that are attached to it.
    :raises StockyardError: with the reason.
    """
    record = parent.record
    if not parent.serving:
        raise OperationRefused(
            "only a ready and running host can be branched.",
            name=record.title,
            cause=f"its phase is {record.phase}, its machine is {parent.state}",
            remedy="start the host, and run again",
        )
    _check_lease(ctx, record, spec.lease)
    if profile == "hostile" and not spec.allow_hostile:
        raise OperationRefused(
            "a host with the profile hostile is branched only if that is allowed explicitly.",
            name=record.title,
            cause="the children contain its memory, and with it each program that runs there",
            remedy="set allow_hostile, or branch another host",
        )
    branched.check(ctx, record, volumes, spec.volumes)
    with ctx.guest(record, ctx.deadline(guest_status.PATIENCE)) as guest:
        guest.require("branches")
        if record.encrypted:
            check_keys(record, guest)
        if volumes and spec.volumes == "none":
            guest.require("branches without volumes")


def check_keys(record: HostRecord, guest: Guest) -> None:
    """Refuse a host whose memory can contain the key of a volume that was detached.

    :raises OperationRefused: with the reason.
    :raises StockyardError: if the agent of the host does not know.
    """
    guest.require("branches of hosts with encrypted data")
    if guest.hello().keys_remain:
        raise OperationRefused(
            "the memory of the host can contain the key of an encrypted volume.",
            name=record.title,
            cause="a volume was attached since the host started, and its kernel does not zero "
            "memory that is freed",
            remedy="restart the host, and run again",
        )


def _check_lease(ctx: Context, record: HostRecord, number: str) -> None:
    lease = record.lease
    if lease is None and number:
        raise OperationRefused(
            "the host is not leased.", name=record.title, remedy="omit the number of the lease"
        )
    if lease is None:
        return
    if lease.ended(ctx.clock.now()):
        raise OperationRefused(
            "the lease of the host has expired, and the host will be deleted.",
            name=record.title,
            remedy="branch another host",
        )
    if lease.id != number:
        raise OperationRefused(
            "only the holder of a leased host can branch it.",
            name=record.title,
            cause=f"it is leased by {lease.holder}",
            remedy="specify the number of this lease, or branch another host",
        )


def freeze(
    ctx: Context,
    parent: HostRecord,
    template: TemplateRecord,
    volumes: Sequence[VolumeRecord],
    deadline: Deadline,
) -> BranchRecord:
    """Freeze the state of a running host, which continues.

    :param template: the template of the host.
    :param volumes: the volumes that are attached to the host.
    :raises Conflict: if another controller changes these volumes.
    """
    start = ctx.clock.monotonic()
    with ExitStack() as stack:
        # If a volume grew during the branch, its overlay would be too small.
        for volume in sorted(volumes, key=lambda record: record.name):
            stack.enter_context(
                volume_lifecycle.exclusive(ctx, volume.tenant, volume.name, deadline)
            )
        if attachment.held_by(ctx, parent) != list(volumes):
            raise Conflict(
                "the volumes of the host were changed.", name=parent.title, remedy="run again"
            )
        branch = ctx.provider.branches.create(parent, template, ctx.clock.now(), deadline, volumes)
    # vCenter does not say how long it stops a machine.
    pause = f", stopped for {branch.pause_ms:.0f} ms" if branch.pause_ms else ""
    ctx.progress(f"{parent.title}: branched{pause} ({ctx.clock.monotonic() - start:.2f} s)")
    return branch


def drop_volumes(
    ctx: Context, template: TemplateRecord, branch: BranchRecord, guest: Guest
) -> None:
    """Unmount the volumes of a host in a template that is created from it."""
    branched.drop(ctx, template, branch, guest)
