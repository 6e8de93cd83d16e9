# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes in hosts: who has one, and having it plugged in, with a file system, checked and mounted.

A holder is on the volume's record, by compare and set: of two who ask, on whatever controllers, one gets it. A host
that is not there any more holds nothing, so that no death of a controller keeps a volume from the next one.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from ..core.clock import Deadline
from ..core.host import Host, HostRecord, HostSpec
from ..core.plan import Plan
from ..core.plan_template import generations, newest
from ..core.plan_volume import refuse_if_held
from ..core.provider import Channel, Observation, Template
from ..core.volume import BLANK, DOCKER_ROOT, EXT4, MAKING, Holder, VolumeRecord, VolumeSpec
from ..errors import Conflict, NotFound, Refused, StockyardError, Unsupported
from . import sealing, volumes
from .context import Context

# The first agent that knows volumes.
AGENT = 3
# Seconds for a host that goes to end its containers and let go of its volumes.
FAREWELL = 60.0
TRIES = 10


def admit(ctx: Context, tenant: str, template: str, spec: HostSpec, todo: Plan, seen: Observation) -> None:
    """Refuse a plan whose hosts cannot have their volumes: nothing is destroyed for the sake of one.

    :raises Unsupported: when the hypervisor, or the template, has no place for them.
    :raises Refused: when a host that stays has one of them; it is named.
    """
    made = [a.name for a in todo.actions if a.verb in ("create", "replace")]
    if not (made and spec.volumes):
        return
    ruling = _check_room(ctx, tenant, template, spec, seen)
    found = ctx.provider.volumes.observe(ctx.owner)
    goes = {a.name for a in todo.actions if a.verb in ("destroy", "replace")}
    stay = [h.record.uuid for h in seen.hosts if (h.record.tenant != tenant or h.record.name not in goes)]
    for name in made:
        for use in spec.volumes:
            there, source = found.find(tenant, use.of(name)), found.find(tenant, use.source)
            if ruling:
                origin = [v for v in (there or source,) if v]
                sealing.check(ctx, f"template {template}", ruling.record.encrypted, origin)
            if there:
                refuse_if_held(there, stay, f"host {name} cannot have it")
                check_attachable(there)
            # In the plan of a whole yard its source may be one that is made before.
            origin_name = "" if (tenant, use.source) in ctx.coming else use.source
            volumes.plan(ctx, VolumeSpec(use.of(name), tenant, _size(use.size_gib, there), origin_name), found)


def _check_room(ctx: Context, tenant: str, template: str, spec: HostSpec, seen: Observation) -> Template | None:
    """Refuse what the template has no place for; return the generation that rules, if there is one."""
    if not ctx.provider.capabilities.volumes:
        raise Unsupported(
            "this hypervisor has no volumes.", name=f"volume {spec.volumes[0].name}", remedy="leave volumes out"
        )
    ruling = newest(generations(tenant, template, seen.templates))
    if ruling is None:
        return None
    if ruling.record.docker == "running" and any(use.path == DOCKER_ROOT for use in spec.volumes):
        raise Unsupported(
            f"{DOCKER_ROOT} cannot be a volume: Docker runs there when a host is made.", name=ruling.record.title,
            remedy="declare the template with docker: stopped, or mount the volume elsewhere",
        )  # fmt: skip
    room = ruling.record.hardware.spare_ports
    if len(spec.volumes) > room:
        raise Unsupported(
            f"its hosts have room for {room} volumes, and {len(spec.volumes)} are declared.", name=ruling.record.title,
            remedy="raise spare_ports of the template, at most 12",
        )  # fmt: skip
    return ruling


def bring(ctx: Context, host: HostRecord, channel: Channel, deadline: Deadline) -> list[str]:
    """Have the declared volumes of a new host, made where they are not there; returns their names."""
    if host.spec.volumes:
        _check_agent(host, channel, deadline)
    for use in sorted(host.spec.volumes, key=lambda u: u.path):
        name = use.of(host.name)
        there = ctx.provider.volumes.observe(ctx.owner).find(host.tenant, name)
        spec = VolumeSpec(name, host.tenant, _size(use.size_gib, there), use.source)
        volumes.ensure(ctx, spec, deadline.left())
        found = volumes.need(ctx, host.tenant, name)
        attach(ctx, host, found, Holder(host.uuid, host.name, use.path, declared=True), channel, deadline)
    return [use.of(host.name) for use in host.spec.volumes]


def attach(
    ctx: Context, host: HostRecord, volume: VolumeRecord, holder: Holder, channel: Channel, deadline: Deadline
) -> VolumeRecord:
    """Let a running host have a volume, whole and mounted.

    :raises Refused: when another host has it; it is named.
    """
    _check_agent(host, channel, deadline)
    sealing.check(ctx, host.title, host.encrypted, [volume])
    volume = take(ctx, volume, holder)
    ctx.provider.volumes.plug(host, volume, deadline)
    volume = _with_file_system(ctx, host, volume, channel, deadline)
    mount(ctx, volume, holder.path, channel, deadline)
    return ctx.provider.volumes.claim(volume, holder=replace(holder, mounted=True))


def mount(ctx: Context, volume: VolumeRecord, path: str, channel: Channel, deadline: Deadline) -> None:
    """Have the guest mount a volume, in its full size; one that is mounted stays so."""
    request = {"op": "volume-mount", "serial": volume.serial, "path": path}
    sealing.ask(channel, request, sealing.key_of(ctx, volume), deadline)


def take(ctx: Context, volume: VolumeRecord, holder: Holder) -> VolumeRecord:
    """Put a holder on record, unless another one lives.

    :raises Refused: when one does, or may.
    """
    for _number in range(TRIES):
        check_attachable(volume)
        if volume.holder and volume.holder.uuid != holder.uuid:
            refuse_if_held(volume, living(ctx.provider.observe(ctx.owner)), f"host {holder.host} cannot have it")
        with suppress(Conflict):
            return ctx.provider.volumes.claim(volume, holder=holder)
        volume = volumes.need(ctx, volume.tenant, volume.name)
    raise Conflict("it changes all the time.", name=volume.title, remedy="run again")


def check_attachable(volume: VolumeRecord) -> None:
    """Refuse a snapshot, and what is on its way out.

    :raises Unsupported: saying what to do instead.
    :raises Refused: when it is being deleted.
    """
    if volume.phase == "deleting":
        raise Refused("it is being deleted.", name=volume.title, remedy="run again when it is gone")
    if volume.snapshot:
        raise Unsupported(
            "no host can have a snapshot: it never changes.",
            name=volume.title,
            remedy="make a volume with it as source",
        )


def detach(ctx: Context, host: HostRecord, volume: VolumeRecord, channel: Channel, deadline: Deadline) -> VolumeRecord:
    """Take a volume out of a running host; its data is durable then."""
    if volume.holder is None:
        return volume
    volume = ctx.provider.volumes.claim(volume, holder=replace(volume.holder, mounted=False))
    channel.request({"op": "volume-unmount", "path": volume.holder.path if volume.holder else ""}, deadline)
    ctx.provider.volumes.unplug(host, volume, deadline)
    return ctx.provider.volumes.claim(volume, holder=None)


def check_keys(ctx: Context, host: HostRecord) -> None:
    """Refuse to boot a host whose volumes could not be opened then.

    :raises InvalidInput: when their key is not here.
    """
    if host.encrypted and (mine := held_by(ctx, host)):
        sealing.check(ctx, host.title, host.encrypted, mine)


def resume(ctx: Context, host: HostRecord, channel: Channel, deadline: Deadline) -> None:
    """Have the volumes of a host that booted mounted, and let users in: it may have kept them out for want of one."""
    mine = held_by(ctx, host)
    for volume in sorted(mine, key=lambda v: v.holder.path if v.holder else ""):
        if volume.holder:
            attach(ctx, host, volume, volume.holder, channel, deadline)
    if mine:
        channel.request({"op": "open"}, deadline)
        ctx.progress(f"{host.title}: has its volumes ({', '.join(v.name for v in mine)})")


def farewell(ctx: Context, host: HostRecord) -> None:
    """Let a host that goes end what writes to its volumes. One that cannot is cut off, as by a loss of power."""
    mine = held_by(ctx, host)
    if not mine or not _runs(ctx, host):
        return
    deadline = ctx.deadline(FAREWELL)
    try:
        channel = ctx.provider.channel(host, deadline)
        try:
            channel.request({"op": "volume-unmount", "all": True}, deadline)
        finally:
            channel.close()
    except StockyardError as error:
        ctx.progress(f"{host.title}: its volumes are cut off, and checked when they are next used: {error}")


def release(ctx: Context, host: HostRecord) -> None:
    """Note that a host which is gone has no volume any more."""
    for volume in held_by(ctx, host):
        with suppress(NotFound, Conflict):
            ctx.provider.volumes.claim(volume, holder=None)
            ctx.progress(f"{volume.title}: {host.name} has let go of it; it stays")


def held_by(ctx: Context, host: HostRecord) -> list[VolumeRecord]:
    """The volumes that a host has."""
    found = ctx.provider.volumes.observe(ctx.owner).volumes if ctx.provider.capabilities.volumes else ()
    return [v for v in found if v.holder and v.holder.uuid == host.uuid]


def living(seen: Observation) -> list[str] | None:
    """Uuids of the hosts that there are; nothing where one cannot be read: it may be any."""
    return None if seen.strangers else [h.record.uuid for h in seen.hosts]


def need_running(hosts: Iterable[Host], tenant: str, name: str) -> HostRecord:
    """A host that a volume can be attached to.

    :raises NotFound: when there is none of this name.
    :raises Unsupported: when it does not run.
    """
    found = next((h for h in hosts if (h.record.tenant, h.record.name) == (tenant, name)), None)
    if found is None:
        raise NotFound("there is no such host.", name=f"host {name}", remedy="make it first, in the volume's tenant")
    if not found.serving:
        state = found.state if found.record.phase == "ready" else found.record.phase
        raise Unsupported(
            f"it is {state}: only a running host takes a volume.", name=found.record.title, remedy="start it"
        )
    return found.record


def _with_file_system(
    ctx: Context, host: HostRecord, volume: VolumeRecord, channel: Channel, deadline: Deadline
) -> VolumeRecord:
    """Have a file system on it: made once, on a disk that is blank by its record and by its guest's look at it.

    That it is begun is on record before, and that it is there before anybody can write. So one that was begun and not
    ended is known to hold no data, and nothing else is ever written over.
    """
    if volume.filesystem == EXT4:
        return volume
    found = channel.request({"op": "volume-look", "serial": volume.serial}, deadline).get("content")
    again = volume.filesystem == MAKING
    if volume.filesystem == BLANK and found == "blank":
        sealed = volume.uuid if host.encrypted else ""
        volume = ctx.provider.volumes.claim(volume, filesystem=MAKING, encryption=sealed)
    elif not again:
        raise Unsupported(
            f"its disk is not blank ({str(found)[:40]}), and no file system of it is on record: it is left as it is.",
            name=volume.title, remedy="delete the volume if nothing on it is wanted",
        )  # fmt: skip
    make = {"op": "volume-make", "serial": volume.serial, "uuid": volume.uuid, "again": again}
    sealing.ask(channel, make, sealing.key_of(ctx, volume), deadline)
    return ctx.provider.volumes.claim(volume, filesystem=EXT4)


def _check_agent(host: HostRecord, channel: Channel, deadline: Deadline) -> None:
    agent = channel.request({"op": "hello"}, deadline).get("agent")
    if not isinstance(agent, int) or agent < (sealing.AGENT if host.encrypted else AGENT):
        raise Unsupported(
            "its agent is too old for volumes.", name=host.title, remedy="rebuild its template and replace the host"
        )


def _runs(ctx: Context, host: HostRecord) -> bool:
    hosts = ctx.provider.observe(host.owner).hosts
    return any(h.record.uuid == host.uuid and h.state == "running" for h in hosts)


def _size(declared: int | None, there: VolumeRecord | None) -> int | None:
    """A volume that was grown beyond what its host declares stays as it is."""
    return None if there and there.phase == "ready" and there.size_gib >= (declared or 0) else declared
