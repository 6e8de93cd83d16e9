# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: created, resized, copied, attached and detached on request, and deleted only on
request.
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
from ...model.volume import (
    BLANK,
    DOCKER_ROOT,
    EXT4,
    Attachment,
    VolumeRecord,
    VolumeSpec,
    mount_point,
)
from ...planning.plan import Action, Plan
from ...planning.volumes import plan_removal, plan_volume, refuse_if_held, size_of
from ..context import Context
from . import attachment, encryption

LOCK_WAIT = 30.0


def plan(ctx: Context, spec: VolumeSpec, observation: VolumeObservation | None = None) -> Plan:
    """Return the plan of :func:`ensure`. Changes nothing.

    :raises Unsupported: if the hypervisor has no volumes.
    :raises NotFound: if the source of the volume does not exist.
    """
    if not ctx.provider.capabilities.volumes:
        raise Unsupported(
            "this hypervisor has no volumes.",
            name=f"volume {spec.name}",
            remedy="leave volumes out",
        )
    observation = observation or ctx.provider.volumes.observe(ctx.owner)
    todo = plan_volume(spec, observation)
    if any(action.verb == "create" for action in todo.actions) and spec.source:
        _source(ctx, spec, observation)
    return todo


def ensure(ctx: Context, spec: VolumeSpec, timeout: float) -> Plan:
    """Converge a volume to its declaration. Returns the actions that were taken."""
    deadline = ctx.deadline(timeout)
    with _held(ctx, spec.tenant, spec.name, deadline):
        todo = plan(ctx, spec)
        for action in todo.actions:
            {"create": _create, "grow": _grow}[action.verb](ctx, spec, deadline)
        return todo


def plan_deletion(ctx: Context, tenant: str, name: str) -> Plan:
    """Return the plan of :func:`delete`."""
    volume = ctx.provider.volumes.observe(ctx.owner).find(tenant, name)
    return plan_removal(volume, attachment.living(ctx.provider.observe(ctx.owner)))


def delete(ctx: Context, tenant: str, name: str, timeout: float) -> Plan:
    """Delete a volume and all its data; copies of the volume stay complete.

    :raises OperationRefused: if a host holds the volume.
    """
    with _held(ctx, tenant, name, ctx.deadline(timeout)):
        volume = ctx.provider.volumes.observe(ctx.owner).find(tenant, name)
        # Observe hosts after the volume: an attachment is then on record, or deleted.
        todo = plan_removal(volume, attachment.living(ctx.provider.observe(ctx.owner)))
        if volume:
            _delete(ctx, volume)
        return todo


def plan_attachment(ctx: Context, spec: VolumeSpec, host: str, path: str) -> Plan:
    """Return the plan of :func:`attach`. Changes nothing."""
    mount_point(path)
    volume_plan, volume = (
        plan(ctx, spec),
        ctx.provider.volumes.observe(ctx.owner).find(spec.tenant, spec.name),
    )
    if spec.snapshot or (volume and volume.snapshot):
        attachment.check_attachable(volume or _draft(ctx, spec, 1))
    observation = ctx.provider.observe(ctx.owner)
    record = attachment.need_running(observation.hosts, spec.tenant, host)
    encryption.check(ctx, record.title, record.encrypted, [volume] if volume else [])
    if path == DOCKER_ROOT:
        raise OperationRefused(
            f"Docker runs on {DOCKER_ROOT} of a host that is there.",
            name=record.title,
            remedy="declare the volume with the host, whose template has docker: stopped",
        )
    current_attachment = volume.attachment if volume else None
    if volume and current_attachment and current_attachment.uuid != record.uuid:
        refuse_if_held(volume, attachment.living(observation), f"host {host} cannot have it")
    if (
        current_attachment
        and current_attachment.uuid == record.uuid
        and current_attachment.path != path
    ):
        raise OperationRefused(
            f"it is mounted at {current_attachment.path} there, not at {path}.",
            name=f"volume {spec.name}",
            remedy="detach it first",
        )
    if current_attachment and current_attachment.uuid == record.uuid and current_attachment.mounted:
        return volume_plan
    after = {"host": host, "path": path}
    return Plan(
        (
            *volume_plan.actions,
            Action("attach", "volume", spec.name, f"{host} is to have it", {}, after),
        )
    )


def attach(ctx: Context, spec: VolumeSpec, host: str, path: str, timeout: float) -> Plan:
    """Create a volume if needed, and attach it to a running host.

    :raises OperationRefused: if another host holds the volume; the error names that host.
    """
    deadline = ctx.deadline(timeout)
    todo = plan_attachment(ctx, spec, host, path)
    ensure(ctx, spec, deadline.left())
    if any(action.verb == "attach" for action in todo.actions):
        _in_host(
            ctx,
            spec,
            host,
            deadline,
            lambda record, volume, channel: attachment.attach(
                ctx, record, volume, Attachment(record.uuid, record.name, path), channel, deadline
            ),
        )
        ctx.progress(f"volume {spec.name}: mounted at {path} in host {host}")
    return todo


def plan_detachment(ctx: Context, tenant: str, name: str) -> Plan:
    """Return the plan of :func:`detach`."""
    volume = attachment.need(ctx, tenant, name)
    if volume.attachment is None:
        return Plan()
    observation = ctx.provider.observe(ctx.owner)
    host_uuids = attachment.living(observation)
    if volume.attachment.declared and (host_uuids is None or volume.attachment.uuid in host_uuids):
        raise OperationRefused(
            f"host {volume.attachment.host} is declared to have it.",
            name=volume.title,
            remedy="take it out of the declaration, or destroy the host; the volume stays",
        )
    before = {"host": volume.attachment.host, "path": volume.attachment.path}
    return Plan((Action("detach", "volume", name, "nobody is to have it", before, {}),))


def detach(ctx: Context, tenant: str, name: str, timeout: float) -> Plan:
    """Detach a volume from the host that holds it.

    :raises GuestError: if a program in the host uses the volume.
    """
    deadline, todo = ctx.deadline(timeout), plan_detachment(ctx, tenant, name)
    volume_record = attachment.need(ctx, tenant, name)
    if todo and volume_record.attachment:
        host_uuids = attachment.living(ctx.provider.observe(ctx.owner))
        if host_uuids is not None and volume_record.attachment.uuid not in host_uuids:
            ctx.provider.volumes.claim(volume_record, attachment=None)
        else:
            _in_host(
                ctx,
                VolumeSpec(name, tenant),
                volume_record.attachment.host,
                deadline,
                lambda record, volume, channel: attachment.detach(
                    ctx, record, volume, channel, deadline
                ),
            )
        ctx.progress(f"volume {name}: detached from host {volume_record.attachment.host}")
    return todo


def describe(ctx: Context, volume: VolumeRecord) -> dict[str, Any]:
    """Return the facts of a volume that modules show."""
    current_attachment = volume.attachment
    return {
        "name": volume.name,
        "tenant": volume.tenant,
        "uuid": volume.uuid,
        "size_gib": volume.size_gib,
        "phase": volume.phase,
        "created": volume.created,
        "filesystem": volume.filesystem,
        "source": volume.source,
        "snapshot": volume.snapshot,
        "encrypted": bool(volume.encryption_id),
        "host": current_attachment.host if current_attachment else "",
        "path": current_attachment.path if current_attachment else "",
        "mounted": bool(current_attachment and current_attachment.mounted),
        **ctx.provider.volumes.facts(volume),
    }


def _create(ctx: Context, spec: VolumeSpec, deadline: Deadline) -> None:
    observation = ctx.provider.volumes.observe(ctx.owner)
    incomplete_volume = observation.find(spec.tenant, spec.name)
    if incomplete_volume:
        _delete(ctx, incomplete_volume)
    source = _source(ctx, spec, observation) if spec.source else None
    if source and source.attachment:
        # The host of its attachment no longer exists: otherwise the copy would have been refused.
        source = ctx.provider.volumes.claim(source, attachment=None)
    record = _draft(ctx, spec, size_of(spec, source))
    if source:
        record = replace(record, filesystem=source.filesystem, encryption_id=source.encryption_id)
    try:
        ctx.provider.volumes.create(record, source, deadline)
        ctx.provider.volumes.claim(record, phase="ready")
    except StockyardError:
        ctx.provider.volumes.destroy(record)
        raise
    ctx.progress(
        f"{record.title}: made{f' of {source.title}' if source else ''}, {record.size_gib} GiB"
    )


def _source(ctx: Context, spec: VolumeSpec, observation: VolumeObservation) -> VolumeRecord:
    source = observation.find(spec.tenant, spec.source)
    if source is None or source.phase != "ready":
        raise NotFound(
            "there is no such volume to copy.",
            name=f"volume {spec.source}",
            remedy=f"make it before {spec.name}",
        )
    refuse_if_held(
        source,
        attachment.living(ctx.provider.observe(ctx.owner)),
        f"volume {spec.name} cannot be a copy of it",
    )
    if source.filesystem not in (BLANK, EXT4):
        raise OperationRefused(
            "its file system is not whole.",
            name=source.title,
            remedy="let a host have it once, or delete it",
        )
    return source


def _grow(ctx: Context, spec: VolumeSpec, deadline: Deadline) -> None:
    volume_record, size = attachment.need(ctx, spec.tenant, spec.name), spec.size_gib or 0
    # Grow the disk first: if the record is too small, the next run corrects it.
    ctx.provider.volumes.grow(volume_record, size, deadline)
    volume_record = ctx.provider.volumes.claim(volume_record, size_gib=size)
    current_attachment = volume_record.attachment
    if current_attachment and current_attachment.mounted:
        observation = ctx.provider.observe(ctx.owner)
        if any(
            host.record.uuid == current_attachment.uuid and host.serving
            for host in observation.hosts
        ):
            _in_host(
                ctx,
                spec,
                current_attachment.host,
                deadline,
                lambda _record, volume, channel: attachment.mount(
                    ctx, volume, current_attachment.path, channel, deadline
                ),
            )
    ctx.progress(f"{volume_record.title}: grown to {size} GiB")


def _delete(ctx: Context, volume: VolumeRecord) -> None:
    ctx.provider.volumes.claim(volume, phase="deleting", attachment=None)
    ctx.provider.volumes.destroy(volume)
    ctx.progress(f"{volume.title}: deleted")


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
    operation: Callable[[Any, VolumeRecord, Any], object],
) -> None:
    """Run an action on a volume with the agent of a host, from their current records."""
    record = attachment.need_running(ctx.provider.observe(ctx.owner).hosts, spec.tenant, host)
    channel = ctx.provider.channel(record, deadline)
    try:
        operation(record, attachment.need(ctx, spec.tenant, spec.name), channel)
    finally:
        channel.close()


def _held(ctx: Context, tenant: str, name: str, deadline: Deadline) -> AbstractContextManager[None]:
    return ctx.provider.exclusive(ctx.lock_name("volume", tenant, name), deadline.within(LOCK_WAIT))
