# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The declared volumes of new hosts: validated before anything changes, and attached."""

from __future__ import annotations

from ...clock import Deadline
from ...errors import Unsupported
from ...guest.client import Guest
from ...model.host import HostRecord, HostSpec
from ...model.observation import Observation, Template
from ...model.volume import DOCKER_ROOT, Attachment, VolumeRecord, VolumeSpec, VolumeUse
from ...planning.plan import Plan
from ...planning.volumes import refuse_if_held
from ..context import Context
from . import attachment, encryption, volume_lifecycle


def validate_plan(
    ctx: Context, tenant: str, template: str, spec: HostSpec, todo: Plan, observation: Observation
) -> None:
    """Refuse a plan whose hosts cannot get their volumes, before any host is deleted for it.

    :raises Unsupported: if the hypervisor or the template has no place for the volumes.
    :raises OperationRefused: if a remaining host holds one of them; the error names that host.
    """
    names = [action.name for action in todo.actions if action.verb in ("create", "replace")]
    if not (names and spec.volumes):
        return
    current_template = _check_room(ctx, tenant, template, spec, observation)
    volumes = observation.volumes
    deleted_names = {action.name for action in todo.actions if action.verb in ("delete", "replace")}
    remaining_uuids = [
        host.record.uuid
        for host in observation.hosts
        if (host.record.tenant != tenant or host.record.name not in deleted_names)
    ]
    for name in names:
        for use in spec.volumes:
            existing_volume, source = (
                volumes.find(tenant, use.of(name)),
                volumes.find(tenant, use.source),
            )
            if current_template:
                origin = [volume for volume in (existing_volume or source,) if volume]
                encryption.check(
                    ctx, f"template {template}", current_template.record.encrypted, origin
                )
            if existing_volume:
                refuse_if_held(
                    existing_volume,
                    remaining_uuids,
                    f"the volume cannot be attached to host {name}",
                )
                attachment.check_attachable(existing_volume)
            # In the plan of a whole yard, an earlier step may create its source.
            origin_name = "" if (tenant, use.source) in ctx.coming else use.source
            volume_lifecycle.planned(
                ctx,
                VolumeSpec(use.of(name), tenant, _size(use.size_gib, existing_volume), origin_name),
                volumes,
                observation.host_uuids,
            )


def _check_room(
    ctx: Context, tenant: str, template: str, spec: HostSpec, observation: Observation
) -> Template | None:
    """Refuse volumes that the template has no place for; return its current generation, if it has
    one.
    """
    if not ctx.provider.capabilities.volumes:
        raise Unsupported(
            "this hypervisor does not support volumes.",
            name=f"volume {spec.volumes[0].name}",
            remedy="omit volumes",
        )
    current_template = observation.template(tenant, template)
    if current_template is None:
        return None
    if current_template.record.docker == "running" and any(
        use.path == DOCKER_ROOT for use in spec.volumes
    ):
        raise Unsupported(
            f"a volume cannot be mounted at {DOCKER_ROOT}, because Docker already runs there "
            "in new hosts of this template.",
            name=current_template.record.title,
            remedy="declare the template with docker: stopped, or mount the volume elsewhere",
        )
    room = current_template.record.hardware.spare_ports
    if len(spec.volumes) > room:
        raise Unsupported(
            f"hosts of the template can have {room} volumes, and {len(spec.volumes)} are declared.",
            name=current_template.record.title,
            remedy="raise spare_ports of the template (at most 12)",
        )
    return current_template


def attach_declared(ctx: Context, host: HostRecord, guest: Guest) -> list[str]:
    """Attach the declared volumes of a new host, and create those that do not exist; return their
    names.
    """
    if host.spec.volumes:
        attachment.check_agent(host, guest)
    for use in sorted(host.spec.volumes, key=lambda volume_use: volume_use.path):
        new_attachment = Attachment(host.uuid, host.name, use.path, declared=True)
        volume = _ensure(ctx, host, use, guest.deadline)
        attachment.attach(ctx, host, volume, new_attachment, guest)
    return [use.of(host.name) for use in host.spec.volumes]


def _ensure(ctx: Context, host: HostRecord, use: VolumeUse, deadline: Deadline) -> VolumeRecord:
    """Return a declared volume of a host; create or grow it if needed."""
    name = use.of(host.name)
    with volume_lifecycle.exclusive(ctx, host.tenant, name, deadline):
        volumes, host_uuids = volume_lifecycle.observe(ctx, use.source)
        size = _size(use.size_gib, volumes.find(host.tenant, name))
        spec = VolumeSpec(name, host.tenant, size, use.source)
        return volume_lifecycle.converge(ctx, spec, volumes, host_uuids, deadline)[1]


def _size(declared_size: int | None, existing_volume: VolumeRecord | None) -> int | None:
    """Return the declared size; ``None`` for a volume that is already as large or larger."""
    return (
        None
        if existing_volume
        and existing_volume.phase == "ready"
        and existing_volume.size_gib >= (declared_size or 0)
        else declared_size
    )
