# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes in hosts: who has one, and having it plugged in, with a file system, checked and mounted.

A holder is on the volume's record, by compare and set: of two who ask, on whatever controllers, one
gets it. A host that is not there any more holds nothing, so that no death of a controller keeps a
volume from the next one.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from ...clock import Deadline
from ...errors import Conflict, NotFound, OperationRefused, StockyardError, Unsupported
from ...hypervisor.provider import Channel
from ...model.host import Host, HostRecord
from ...model.observation import Observation
from ...model.volume import BLANK, EXT4, MAKING, Holder, VolumeRecord
from ...planning.volumes import refuse_if_held
from ..context import Context
from . import encryption

# The first agent that knows volumes.
AGENT = 3
# Seconds for a host that goes to end its containers and let go of its volumes.
FAREWELL = 60.0
TRIES = 10


def attach(
    ctx: Context,
    host: HostRecord,
    volume: VolumeRecord,
    holder: Holder,
    channel: Channel,
    deadline: Deadline,
) -> VolumeRecord:
    """Let a running host have a volume, whole and mounted.

    :raises Refused: when another host has it; it is named.
    """
    check_agent(host, channel, deadline)
    encryption.check(ctx, host.title, host.encrypted, [volume])
    volume = take(ctx, volume, holder)
    ctx.provider.volumes.plug(host, volume, deadline)
    volume = _with_file_system(ctx, host, volume, channel, deadline)
    mount(ctx, volume, holder.path, channel, deadline)
    return ctx.provider.volumes.claim(volume, holder=replace(holder, mounted=True))


def mount(
    ctx: Context, volume: VolumeRecord, path: str, channel: Channel, deadline: Deadline
) -> None:
    """Have the guest mount a volume, in its full size; one that is mounted stays so."""
    request = {"op": "volume-mount", "serial": volume.serial, "path": path}
    encryption.ask(channel, request, encryption.key_of(ctx, volume), deadline)


def take(ctx: Context, volume: VolumeRecord, holder: Holder) -> VolumeRecord:
    """Put a holder on record, unless another one lives.

    :raises Refused: when one does, or may.
    """
    for _number in range(TRIES):
        check_attachable(volume)
        if volume.holder and volume.holder.uuid != holder.uuid:
            refuse_if_held(
                volume,
                living(ctx.provider.observe(ctx.owner)),
                f"host {holder.host} cannot have it",
            )
        with suppress(Conflict):
            return ctx.provider.volumes.claim(volume, holder=holder)
        volume = need(ctx, volume.tenant, volume.name)
    raise Conflict("it changes all the time.", name=volume.title, remedy="run again")


def check_attachable(volume: VolumeRecord) -> None:
    """Refuse a snapshot, and what is on its way out.

    :raises Unsupported: saying what to do instead.
    :raises Refused: when it is being deleted.
    """
    if volume.phase == "deleting":
        raise OperationRefused(
            "it is being deleted.", name=volume.title, remedy="run again when it is gone"
        )
    if volume.snapshot:
        raise Unsupported(
            "no host can have a snapshot: it never changes.",
            name=volume.title,
            remedy="make a volume with it as source",
        )


def detach(
    ctx: Context, host: HostRecord, volume: VolumeRecord, channel: Channel, deadline: Deadline
) -> VolumeRecord:
    """Take a volume out of a running host; its data is durable then."""
    if volume.holder is None:
        return volume
    volume = ctx.provider.volumes.claim(volume, holder=replace(volume.holder, mounted=False))
    channel.request(
        {"op": "volume-unmount", "path": volume.holder.path if volume.holder else ""}, deadline
    )
    ctx.provider.volumes.unplug(host, volume, deadline)
    return ctx.provider.volumes.claim(volume, holder=None)


def check_keys(ctx: Context, host: HostRecord) -> None:
    """Refuse to boot a host whose volumes could not be opened then.

    :raises InvalidInput: when their key is not here.
    """
    if host.encrypted and (mine := held_by(ctx, host)):
        encryption.check(ctx, host.title, host.encrypted, mine)


def resume(ctx: Context, host: HostRecord, channel: Channel, deadline: Deadline) -> None:
    """Have the volumes of a host that booted mounted, and let users in: it may have kept them out
    for want of one.
    """
    mine = held_by(ctx, host)
    for volume in sorted(mine, key=lambda v: v.holder.path if v.holder else ""):
        if volume.holder:
            attach(ctx, host, volume, volume.holder, channel, deadline)
    if mine:
        channel.request({"op": "open"}, deadline)
        ctx.progress(f"{host.title}: has its volumes ({', '.join(v.name for v in mine)})")


def unmount_before_delete(ctx: Context, host: HostRecord) -> None:
    """Let a host that goes end what writes to its volumes. One that cannot is cut off, as by a loss
    of power.
    """
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
        ctx.progress(
            f"{host.title}: its volumes are cut off, and checked when they are next used: {error}"
        )


def release(ctx: Context, host: HostRecord) -> None:
    """Note that a host which is gone has no volume any more."""
    for volume in held_by(ctx, host):
        with suppress(NotFound, Conflict):
            ctx.provider.volumes.claim(volume, holder=None)
            ctx.progress(f"{volume.title}: {host.name} has let go of it; it stays")


def held_by(ctx: Context, host: HostRecord) -> list[VolumeRecord]:
    """The volumes that a host has."""
    found = (
        ctx.provider.volumes.observe(ctx.owner).volumes if ctx.provider.capabilities.volumes else ()
    )
    return [v for v in found if v.holder and v.holder.uuid == host.uuid]


def living(seen: Observation) -> list[str] | None:
    """Uuids of the hosts that there are; nothing where one cannot be read: it may be any."""
    return None if seen.unreadable else [h.record.uuid for h in seen.hosts]


def need_running(hosts: Iterable[Host], tenant: str, name: str) -> HostRecord:
    """A host that a volume can be attached to.

    :raises NotFound: when there is none of this name.
    :raises Unsupported: when it does not run.
    """
    found = next((h for h in hosts if (h.record.tenant, h.record.name) == (tenant, name)), None)
    if found is None:
        raise NotFound(
            "there is no such host.",
            name=f"host {name}",
            remedy="make it first, in the volume's tenant",
        )
    if not found.serving:
        state = found.state if found.record.phase == "ready" else found.record.phase
        raise Unsupported(
            f"it is {state}: only a running host takes a volume.",
            name=found.record.title,
            remedy="start it",
        )
    return found.record


def _with_file_system(
    ctx: Context, host: HostRecord, volume: VolumeRecord, channel: Channel, deadline: Deadline
) -> VolumeRecord:
    """Have a file system on it: made once, on a disk that is blank by its record and by its guest's
    look at it.

    That it is begun is on record before, and that it is there before anybody can write. So one that
    was begun and not ended is known to hold no data, and nothing else is ever written over.
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
            f"its disk is not blank ({str(found)[:40]}), and no file system of it is on record: it "
            f"is left as it is.",
            name=volume.title,
            remedy="delete the volume if nothing on it is wanted",
        )
    make = {"op": "volume-make", "serial": volume.serial, "uuid": volume.uuid, "again": again}
    encryption.ask(channel, make, encryption.key_of(ctx, volume), deadline)
    return ctx.provider.volumes.claim(volume, filesystem=EXT4)


def check_agent(host: HostRecord, channel: Channel, deadline: Deadline) -> None:
    agent = channel.request({"op": "hello"}, deadline).get("agent")
    if not isinstance(agent, int) or agent < (encryption.AGENT if host.encrypted else AGENT):
        raise Unsupported(
            "its agent is too old for volumes.",
            name=host.title,
            remedy="rebuild its template and replace the host",
        )


def _runs(ctx: Context, host: HostRecord) -> bool:
    hosts = ctx.provider.observe(host.owner).hosts
    return any(h.record.uuid == host.uuid and h.state == "running" for h in hosts)


def need(ctx: Context, tenant: str, name: str) -> VolumeRecord:
    """A volume that is there.

    :raises NotFound: when it is not.
    """
    found = ctx.provider.volumes.observe(ctx.owner).find(tenant, name)
    if found is None:
        raise NotFound(
            "there is no such volume.", name=f"volume {name}", remedy="create the volume first"
        )
    return found
