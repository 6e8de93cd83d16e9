# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: made, grown, copied, attached and detached by hand, and deleted when asked for and by
nothing else.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from ...clock import Deadline
from ...errors import NotFound, OperationRefused, StockyardError, Unsupported
from ...model.observation import VolumeObservation
from ...model.volume import BLANK, DOCKER_ROOT, EXT4, Holder, VolumeRecord, VolumeSpec, mount_point
from ...planning.plan import Action, Plan
from ...planning.volumes import plan_removal, plan_volume, refuse_if_held, size_of
from ..context import Context
from . import attachment, encryption

LOCK_WAIT = 30.0


def plan(ctx: Context, spec: VolumeSpec, seen: VolumeObservation | None = None) -> Plan:
    """What :func:`ensure` would do. Writes nothing.

    :raises Unsupported: where there are no volumes.
    :raises NotFound: when its source is not there.
    """
    if not ctx.provider.capabilities.volumes:
        raise Unsupported(
            "this hypervisor has no volumes.",
            name=f"volume {spec.name}",
            remedy="leave volumes out",
        )
    seen = seen or ctx.provider.volumes.observe(ctx.owner)
    todo = plan_volume(spec, seen)
    if any(a.verb == "create" for a in todo.actions) and spec.source:
        _source(ctx, spec, seen)
    return todo


def ensure(ctx: Context, spec: VolumeSpec, timeout: float) -> Plan:
    """Have a volume as declared. Returns what was done."""
    deadline = ctx.deadline(timeout)
    with _held(ctx, spec.tenant, spec.name, deadline):
        todo = plan(ctx, spec)
        for action in todo.actions:
            {"create": _create, "grow": _grow}[action.verb](ctx, spec, deadline)
        return todo


def plan_deletion(ctx: Context, tenant: str, name: str) -> Plan:
    """What :func:`delete` would do."""
    found = ctx.provider.volumes.observe(ctx.owner).find(tenant, name)
    return plan_removal(found, attachment.living(ctx.provider.observe(ctx.owner)))


def delete(ctx: Context, tenant: str, name: str, timeout: float) -> Plan:
    """Delete a volume and all that is on it; copies of it stay whole.

    :raises Refused: when a host has it.
    """
    with _held(ctx, tenant, name, ctx.deadline(timeout)):
        found = ctx.provider.volumes.observe(ctx.owner).find(tenant, name)
        # The hosts after the volume: whoever has it then is on record by now, or gone.
        todo = plan_removal(found, attachment.living(ctx.provider.observe(ctx.owner)))
        if found:
            _delete(ctx, found)
        return todo


def plan_attachment(ctx: Context, spec: VolumeSpec, host: str, path: str) -> Plan:
    """What :func:`attach` would do. Writes nothing."""
    mount_point(path)
    first, found = (
        plan(ctx, spec),
        ctx.provider.volumes.observe(ctx.owner).find(spec.tenant, spec.name),
    )
    if spec.snapshot or (found and found.snapshot):
        attachment.check_attachable(found or _draft(ctx, spec, 1))
    seen = ctx.provider.observe(ctx.owner)
    record = attachment.need_running(seen.hosts, spec.tenant, host)
    encryption.check(ctx, record.title, record.encrypted, [found] if found else [])
    if path == DOCKER_ROOT:
        raise OperationRefused(
            f"Docker runs on {DOCKER_ROOT} of a host that is there.",
            name=record.title,
            remedy="declare the volume with the host, whose template has docker: stopped",
        )
    before = found.holder if found else None
    if found and before and before.uuid != record.uuid:
        refuse_if_held(found, attachment.living(seen), f"host {host} cannot have it")
    if before and before.uuid == record.uuid and before.path != path:
        raise OperationRefused(
            f"it is mounted at {before.path} there, not at {path}.",
            name=f"volume {spec.name}",
            remedy="detach it first",
        )
    if before and before.uuid == record.uuid and before.mounted:
        return first
    after = {"host": host, "path": path}
    return Plan(
        (*first.actions, Action("attach", "volume", spec.name, f"{host} is to have it", {}, after))
    )


def attach(ctx: Context, spec: VolumeSpec, host: str, path: str, timeout: float) -> Plan:
    """Have a volume, in a running host.

    :raises Refused: when another host has it; it is named.
    """
    deadline = ctx.deadline(timeout)
    todo = plan_attachment(ctx, spec, host, path)
    ensure(ctx, spec, deadline.left())
    if any(a.verb == "attach" for a in todo.actions):
        _in_host(
            ctx,
            spec,
            host,
            deadline,
            lambda record, volume, channel: attachment.attach(
                ctx, record, volume, Holder(record.uuid, record.name, path), channel, deadline
            ),
        )
        ctx.progress(f"volume {spec.name}: mounted at {path} in host {host}")
    return todo


def plan_detachment(ctx: Context, tenant: str, name: str) -> Plan:
    """What :func:`detach` would do."""
    found = attachment.need(ctx, tenant, name)
    if found.holder is None:
        return Plan()
    seen = ctx.provider.observe(ctx.owner)
    there = attachment.living(seen)
    if found.holder.declared and (there is None or found.holder.uuid in there):
        raise OperationRefused(
            f"host {found.holder.host} is declared to have it.",
            name=found.title,
            remedy="take it out of the declaration, or destroy the host; the volume stays",
        )
    before = {"host": found.holder.host, "path": found.holder.path}
    return Plan((Action("detach", "volume", name, "nobody is to have it", before, {}),))


def detach(ctx: Context, tenant: str, name: str, timeout: float) -> Plan:
    """Take a volume out of the host that has it.

    :raises GuestError: when something in the host uses it.
    """
    deadline, todo = ctx.deadline(timeout), plan_detachment(ctx, tenant, name)
    found = attachment.need(ctx, tenant, name)
    if todo and found.holder:
        there = attachment.living(ctx.provider.observe(ctx.owner))
        if there is not None and found.holder.uuid not in there:
            ctx.provider.volumes.claim(found, holder=None)
        else:
            _in_host(
                ctx,
                VolumeSpec(name, tenant),
                found.holder.host,
                deadline,
                lambda record, volume, channel: attachment.detach(
                    ctx, record, volume, channel, deadline
                ),
            )
        ctx.progress(f"volume {name}: detached from host {found.holder.host}")
    return todo


def describe(ctx: Context, found: VolumeRecord) -> dict[str, Any]:
    """A volume as modules return it."""
    holder = found.holder
    return {
        "name": found.name,
        "tenant": found.tenant,
        "uuid": found.uuid,
        "size_gib": found.size_gib,
        "phase": found.phase,
        "created": found.created,
        "filesystem": found.filesystem,
        "source": found.source,
        "snapshot": found.snapshot,
        "encrypted": bool(found.encryption),
        "host": holder.host if holder else "",
        "path": holder.path if holder else "",
        "mounted": bool(holder and holder.mounted),
        **ctx.provider.volumes.facts(found),
    }


def _create(ctx: Context, spec: VolumeSpec, deadline: Deadline) -> None:
    seen = ctx.provider.volumes.observe(ctx.owner)
    half = seen.find(spec.tenant, spec.name)
    if half:
        _delete(ctx, half)
    source = _source(ctx, spec, seen) if spec.source else None
    if source and source.holder:
        # Whoever had it is gone, else it would have been refused.
        source = ctx.provider.volumes.claim(source, holder=None)
    record = _draft(ctx, spec, size_of(spec, source))
    if source:
        record = replace(record, filesystem=source.filesystem, encryption=source.encryption)
    try:
        ctx.provider.volumes.create(record, source, deadline)
        ctx.provider.volumes.claim(record, phase="ready")
    except StockyardError:
        ctx.provider.volumes.destroy(record)
        raise
    ctx.progress(
        f"{record.title}: made{f' of {source.title}' if source else ''}, {record.size_gib} GiB"
    )


def _source(ctx: Context, spec: VolumeSpec, seen: VolumeObservation) -> VolumeRecord:
    found = seen.find(spec.tenant, spec.source)
    if found is None or found.phase != "ready":
        raise NotFound(
            "there is no such volume to copy.",
            name=f"volume {spec.source}",
            remedy=f"make it before {spec.name}",
        )
    refuse_if_held(
        found,
        attachment.living(ctx.provider.observe(ctx.owner)),
        f"volume {spec.name} cannot be a copy of it",
    )
    if found.filesystem not in (BLANK, EXT4):
        raise OperationRefused(
            "its file system is not whole.",
            name=found.title,
            remedy="let a host have it once, or delete it",
        )
    return found


def _grow(ctx: Context, spec: VolumeSpec, deadline: Deadline) -> None:
    found, size = attachment.need(ctx, spec.tenant, spec.name), spec.size_gib or 0
    # The disk first: a record that says too little is put right by the next run.
    ctx.provider.volumes.grow(found, size, deadline)
    found = ctx.provider.volumes.claim(found, size_gib=size)
    holder = found.holder
    if holder and holder.mounted:
        seen = ctx.provider.observe(ctx.owner)
        if any(h.record.uuid == holder.uuid and h.serving for h in seen.hosts):
            _in_host(
                ctx,
                spec,
                holder.host,
                deadline,
                lambda _r, volume, channel: attachment.mount(
                    ctx, volume, holder.path, channel, deadline
                ),
            )
    ctx.progress(f"{found.title}: grown to {size} GiB")


def _delete(ctx: Context, found: VolumeRecord) -> None:
    ctx.provider.volumes.claim(found, phase="deleting", holder=None)
    ctx.provider.volumes.destroy(found)
    ctx.progress(f"{found.title}: deleted")


def _draft(ctx: Context, spec: VolumeSpec, size_gib: int) -> VolumeRecord:
    return VolumeRecord(
        owner=ctx.owner,
        tenant=spec.tenant,
        name=spec.name,
        uuid=str(uuid.uuid4()),
        size_gib=size_gib,
        phase="creating",
        created=ctx.clock.now(),
        source=spec.source,
        snapshot=spec.snapshot,
    )


def _in_host(
    ctx: Context,
    spec: VolumeSpec,
    host: str,
    deadline: Deadline,
    act: Callable[[Any, VolumeRecord, Any], object],
) -> None:
    """Do something to a volume with the agent of a host, as things are now."""
    record = attachment.need_running(ctx.provider.observe(ctx.owner).hosts, spec.tenant, host)
    channel = ctx.provider.channel(record, deadline)
    try:
        act(record, attachment.need(ctx, spec.tenant, spec.name), channel)
    finally:
        channel.close()


def _held(ctx: Context, tenant: str, name: str, deadline: Deadline) -> AbstractContextManager[None]:
    return ctx.provider.exclusive(ctx.lock_name("volume", tenant, name), deadline.within(LOCK_WAIT))
