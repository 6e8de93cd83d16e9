# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts can be suspended.

A suspension writes the memory of a host to the hypervisor's disk. The memory of a host with an
encrypted volume contains the key of the volume, so this host is refused, or shut down instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...errors import InvalidInput, OperationRefused, StockyardError, Unsupported
from ...model.host import Host, HostRecord
from ...planning.plan import Plan, plan_suspension
from .. import guest_status
from ..context import Context
from ..volumes import attachment
from . import branches


def plan(ctx: Context, hosts: Iterable[Host], reason: str, *, shut_down: bool = False) -> Plan:
    """Return the plan that suspends the running hosts.

    :param shut_down: whether hosts with keys in their memory are shut down; else they are refused.
    :raises StockyardError: if the hosts cannot be suspended together. Nothing is changed.
    """
    chosen_hosts = [host for host in hosts if plan_suspension([host], reason)]
    records = [host.record for host in chosen_hosts]
    key_reasons = {}
    if shut_down:
        reasons = {record.uuid: reason_of_keys(ctx, record) for record in records}
        key_reasons = {uuid: key_reason for uuid, key_reason in reasons.items() if key_reason}
    check(ctx, [record for record in records if record.uuid not in key_reasons])
    return plan_suspension(chosen_hosts, reason, key_reasons)


def resumable(ctx: Context, hosts: Iterable[Host], *, skip_locked: bool = False) -> list[Host]:
    """Return the hosts that a resume of their fleet or yard resumes or starts.

    :param skip_locked: whether hosts with encrypted volumes stay off if this controller does not
        have their key.
    :raises InvalidInput: if this controller does not have the key of a host that it must start.
    """
    chosen_hosts = []
    for host in hosts:
        if not host.resumable:
            continue
        try:
            if not host.suspended:
                attachment.check_keys(ctx, host.record)
        except InvalidInput as error:
            if not skip_locked:
                raise
            ctx.progress(f"{host.record.title}: not started: {error}")
        else:
            chosen_hosts.append(host)
    return chosen_hosts


def check(ctx: Context, records: Sequence[HostRecord]) -> None:
    """Check whether hosts can be suspended together.

    :raises StockyardError: with the reason. Nothing is changed.
    """
    if not records:
        return
    if not ctx.provider.capabilities.suspends:
        raise Unsupported(
            "the hypervisor cannot suspend hosts.",
            name=records[0].title,
            remedy="delete the host, or let it run",
        )
    for record in records:
        check_volumes(ctx, record)
        if reason := _reason_of_memory(ctx, record):
            raise _refusal(record, reason, "restart the host and run again")
    ctx.provider.check_suspend(records)


def check_volumes(ctx: Context, record: HostRecord) -> None:
    """Refuse a host with an encrypted volume, immediately before its memory is saved.

    :raises OperationRefused: with the reason.
    """
    if reason := _reason_of_volumes(ctx, record):
        raise _refusal(record, reason, "detach the volume")


def reason_of_keys(ctx: Context, record: HostRecord) -> str:
    """Return why the memory of a running host contains the key of an encrypted volume, or can
    contain it; an empty string if it does not.
    """
    return _reason_of_volumes(ctx, record) or _reason_of_memory(ctx, record)


def _reason_of_memory(ctx: Context, record: HostRecord) -> str:
    """Return the reason if the memory of a host can contain the key of a detached volume."""
    if not record.encrypted:
        return ""
    try:
        with ctx.guest(record, ctx.deadline(guest_status.PATIENCE)) as guest:
            branches.check_keys(record, guest)
    except OperationRefused as error:
        return error.cause or str(error)
    except StockyardError as error:
        return f"its agent does not say whether its memory contains a key: {error}"
    return ""


def _reason_of_volumes(ctx: Context, record: HostRecord) -> str:
    """Return the reason if a host has volumes that are encrypted, or will be when it uses them."""
    names = [volume.name for volume in attachment.held_by(ctx, record)] if record.encrypted else []
    if not names:
        return ""
    return f"its memory contains the key of encrypted volume {', '.join(sorted(names))}"


def _refusal(record: HostRecord, reason: str, step: str) -> OperationRefused:
    return OperationRefused(
        "the host cannot be suspended, because the hypervisor would write a key to its disk.",
        name=record.title,
        cause=reason,
        remedy=f"{step}, or shut the host down with sudo poweroff",
    )
