# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volumes that a declaration gives to new hosts: checked before anything changes,
and attached.
"""

from __future__ import annotations

from ...clock import Deadline
from ...errors import Unsupported
from ...hypervisor.provider import Channel
from ...model.host import HostRecord, HostSpec
from ...model.observation import Observation, Template
from ...model.volume import DOCKER_ROOT, Holder, VolumeRecord, VolumeSpec
from ...planning.plan import Plan
from ...planning.templates import generations, newest
from ...planning.volumes import refuse_if_held
from ..context import Context
from . import attachment, encryption, volume_lifecycle


def validate_plan(
    ctx: Context, tenant: str, template: str, spec: HostSpec, todo: Plan, seen: Observation
) -> None:
    """Refuse a plan whose hosts cannot have their volumes: nothing is destroyed for the sake of
    one.

    :raises Unsupported: when the hypervisor, or the template, has no place for them.
    :raises Refused: when a host that stays has one of them; it is named.
    """
    made = [a.name for a in todo.actions if a.verb in ("create", "replace")]
    if not (made and spec.volumes):
        return
    ruling = _check_room(ctx, tenant, template, spec, seen)
    found = ctx.provider.volumes.observe(ctx.owner)
    goes = {a.name for a in todo.actions if a.verb in ("destroy", "replace")}
    stay = [
        h.record.uuid
        for h in seen.hosts
        if (h.record.tenant != tenant or h.record.name not in goes)
    ]
    for name in made:
        for use in spec.volumes:
            there, source = found.find(tenant, use.of(name)), found.find(tenant, use.source)
            if ruling:
                origin = [v for v in (there or source,) if v]
                encryption.check(ctx, f"template {template}", ruling.record.encrypted, origin)
            if there:
                refuse_if_held(there, stay, f"host {name} cannot have it")
                attachment.check_attachable(there)
            # In the plan of a whole yard its source may be one that is made before.
            origin_name = "" if (tenant, use.source) in ctx.coming else use.source
            volume_lifecycle.plan(
                ctx,
                VolumeSpec(use.of(name), tenant, _size(use.size_gib, there), origin_name),
                found,
            )


def _check_room(
    ctx: Context, tenant: str, template: str, spec: HostSpec, seen: Observation
) -> Template | None:
    """Refuse what the template has no place for; return the generation that rules, if
    there is one.
    """
    if not ctx.provider.capabilities.volumes:
        raise Unsupported(
            "this hypervisor has no volumes.",
            name=f"volume {spec.volumes[0].name}",
            remedy="leave volumes out",
        )
    ruling = newest(generations(tenant, template, seen.templates))
    if ruling is None:
        return None
    if ruling.record.docker == "running" and any(use.path == DOCKER_ROOT for use in spec.volumes):
        raise Unsupported(
            f"{DOCKER_ROOT} cannot be a volume: Docker runs there when a host is made.",
            name=ruling.record.title,
            remedy="declare the template with docker: stopped, or mount the volume elsewhere",
        )
    room = ruling.record.hardware.spare_ports
    if len(spec.volumes) > room:
        raise Unsupported(
            f"its hosts have room for {room} volumes, and {len(spec.volumes)} are declared.",
            name=ruling.record.title,
            remedy="raise spare_ports of the template, at most 12",
        )
    return ruling


def attach_declared(
    ctx: Context, host: HostRecord, channel: Channel, deadline: Deadline
) -> list[str]:
    """Have the declared volumes of a new host, made where they are not there; returns
    their names.
    """
    if host.spec.volumes:
        attachment.check_agent(host, channel, deadline)
    for use in sorted(host.spec.volumes, key=lambda u: u.path):
        name = use.of(host.name)
        there = ctx.provider.volumes.observe(ctx.owner).find(host.tenant, name)
        spec = VolumeSpec(name, host.tenant, _size(use.size_gib, there), use.source)
        volume_lifecycle.ensure(ctx, spec, deadline.left())
        found = attachment.need(ctx, host.tenant, name)
        attachment.attach(
            ctx,
            host,
            found,
            Holder(host.uuid, host.name, use.path, declared=True),
            channel,
            deadline,
        )
    return [use.of(host.name) for use in host.spec.volumes]


def _size(declared: int | None, there: VolumeRecord | None) -> int | None:
    """A volume that was grown beyond what its host declares stays as it is."""
    return (
        None if there and there.phase == "ready" and there.size_gib >= (declared or 0) else declared
    )
