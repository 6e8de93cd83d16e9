# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes in hosts: the steps of an attachment: plug in, create the
file system, check and mount.

An attachment is on the volume's record, written by compare and set: if two hosts claim a volume, on
any controllers, one of them gets it. A host that no longer exists holds no volume, so the death of
a controller never blocks a volume.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from ...errors import Conflict, NotFound, OperationRefused, StockyardError, Unsupported
from ...guest.client import Guest
from ...model.host import HostRecord
from ...model.observation import Observation, VolumeObservation
from ...model.volume import BLANK, EXT4, MAKING, Attachment, VolumeRecord
from ...planning.volumes import refuse_if_held
from ..context import Context
from . import encryption

# Seconds for a host that is deleted to end its containers and unmount its volumes.
FAREWELL = 60.0
TRIES = 10


def attach(
    ctx: Context,
    host: HostRecord,
    volume: VolumeRecord,
    attachment: Attachment,
    guest: Guest,
) -> VolumeRecord:
    """Attach a volume to a running host, with a file system and mounted.

    :raises OperationRefused: if another host holds the volume; the error names that host.
    """
    check_agent(host, guest)
    encryption.check(ctx, host.title, host.encrypted, [volume])
    volume = record_attachment(ctx, volume, attachment)
    ctx.provider.volumes.plug(host, volume, guest.deadline)
    volume = _with_file_system(ctx, host, volume, guest)
    mount(ctx, volume, attachment.path, guest)
    return ctx.provider.volumes.claim(volume, attachment=replace(attachment, mounted=True))


def mount(ctx: Context, volume: VolumeRecord, path: str, guest: Guest) -> None:
    """Mount a volume in the guest, in its full size; a mounted volume stays mounted."""
    key = encryption.key_of(ctx, volume)
    with encryption.explained(key):
        guest.volume_mount(volume.serial, path, key=key)


def record_attachment(ctx: Context, volume: VolumeRecord, attachment: Attachment) -> VolumeRecord:
    """Put an attachment on record, unless the volume has another one.

    :raises OperationRefused: if the volume has another attachment, or may have one.
    """
    for _number in range(TRIES):
        check_attachable(volume)
        if volume.attachment and volume.attachment.uuid != attachment.uuid:
            refuse_if_held(
                volume,
                ctx.provider.observe(ctx.owner).host_uuids,
                f"the volume cannot be attached to host {attachment.host}",
            )
        with suppress(Conflict):
            return ctx.provider.volumes.claim(volume, attachment=attachment)
        volume = get_volume(ctx, volume.tenant, volume.name)
    raise Conflict(
        f"the record of the volume was changed by other controllers {TRIES} times in a row.",
        name=volume.title,
        remedy="run again",
    )


def check_attachable(volume: VolumeRecord) -> None:
    """Refuse a snapshot, and a volume that is being deleted.

    :raises Unsupported: for a snapshot, with the remedy.
    :raises OperationRefused: if the volume is being deleted.
    """
    if volume.phase == "deleting":
        raise OperationRefused(
            "the volume is being deleted.", name=volume.title, remedy="run again after the deletion"
        )
    if volume.snapshot:
        raise Unsupported(
            "a snapshot cannot be attached, because it never changes.",
            name=volume.title,
            remedy="create a volume with the snapshot as source",
        )


def detach(ctx: Context, host: HostRecord, volume: VolumeRecord, guest: Guest) -> VolumeRecord:
    """Detach a volume from a running host; its data is durable afterwards."""
    if volume.attachment is None:
        return volume
    path = volume.attachment.path
    volume = ctx.provider.volumes.claim(
        volume, attachment=replace(volume.attachment, mounted=False)
    )
    guest.volume_unmount(path)
    ctx.provider.volumes.unplug(host, volume, guest.deadline)
    return ctx.provider.volumes.claim(volume, attachment=None)


def check_keys(ctx: Context, host: HostRecord) -> None:
    """Refuse to boot a host if its volumes could not be opened afterwards.

    :raises InvalidInput: if this controller does not have their key.
    """
    if host.encrypted and (volumes := held_by(ctx, host)):
        encryption.check(ctx, host.title, host.encrypted, volumes)


def resume(ctx: Context, host: HostRecord, guest: Guest) -> None:
    """Mount the volumes of a host that booted, and open the host to users: its agent may have
    refused them because a volume was missing.
    """
    volumes = held_by(ctx, host)
    for volume in sorted(
        volumes, key=lambda record: record.attachment.path if record.attachment else ""
    ):
        if volume.attachment:
            attach(ctx, host, volume, volume.attachment, guest)
    if volumes:
        guest.open()
        ctx.progress(
            f"{host.title}: volumes attached ({', '.join(record.name for record in volumes)})"
        )


def unmount_before_delete(ctx: Context, host: HostRecord, volumes: list[VolumeRecord]) -> None:
    """End the programs that write to the volumes of a host before it is deleted. If the agent
    cannot, the volumes are cut off, as by a loss of power.

    :param volumes: the volumes that the host holds.
    """
    if not volumes or not _runs(ctx, host):
        return
    try:
        with ctx.guest(host, ctx.deadline(FAREWELL)) as guest:
            guest.volume_unmount_all()
    except StockyardError as error:
        ctx.progress(
            f"{host.title}: volumes not unmounted, so their file systems are checked at the "
            f"next use: {error}"
        )


def release(ctx: Context, host: HostRecord, volumes: list[VolumeRecord]) -> None:
    """Release the volumes that a deleted host held."""
    for volume in volumes:
        with suppress(NotFound, Conflict):
            ctx.provider.volumes.claim(volume, attachment=None)
            ctx.progress(f"{volume.title}: detached from host {host.name}, retained")


def held_by(ctx: Context, host: HostRecord) -> list[VolumeRecord]:
    """Return the volumes that a host holds."""
    if not ctx.provider.capabilities.volumes:
        return []
    return ctx.provider.volumes.observe(ctx.owner).held_by(host.uuid)


def need_running(observation: Observation, tenant: str, name: str) -> HostRecord:
    """Return the record of a host that a volume can be attached to.

    :raises NotFound: if no host has this name.
    :raises Unsupported: if the host does not run.
    """
    host = observation.host(tenant, name)
    if host is None:
        raise NotFound(
            "the host does not exist.",
            name=f"host {name}",
            remedy="create the host first, in the volume's tenant",
        )
    if not host.serving:
        state = host.state if host.record.phase == "ready" else host.record.phase
        raise Unsupported(
            f"the host is {state}, and only a running host can use a volume.",
            name=host.record.title,
            remedy="start the host",
        )
    return host.record


def _with_file_system(
    ctx: Context, host: HostRecord, volume: VolumeRecord, guest: Guest
) -> VolumeRecord:
    """Create the volume's file system once, if the disk is blank according to its record and to the
    guest.

    The record notes the start of this before it begins, and its end before any program can write.
    So a file system that was started and not completed is known to hold no data, and no other data
    is ever overwritten.
    """
    if volume.filesystem == EXT4:
        return volume
    content = guest.volume_probe(volume.serial).kind
    unfinished = volume.filesystem == MAKING
    if volume.filesystem == BLANK and content == "blank":
        encryption_id = volume.uuid if host.encrypted else ""
        volume = ctx.provider.volumes.claim(volume, filesystem=MAKING, encryption_id=encryption_id)
    elif not unfinished:
        raise Unsupported(
            f"the volume's disk is not blank ({content}), but its record has no file system; "
            "nothing was written.",
            name=volume.title,
            remedy="delete the volume if its data is not needed",
        )
    key = encryption.key_of(ctx, volume)
    with encryption.explained(key):
        guest.volume_create(volume.serial, volume.uuid, key=key, retried=unfinished)
    return ctx.provider.volumes.claim(volume, filesystem=EXT4)


def check_agent(host: HostRecord, guest: Guest) -> None:
    """Refuse a host whose agent does not support its volumes."""
    guest.require("encrypted volumes" if host.encrypted else "volumes")


def _runs(ctx: Context, host: HostRecord) -> bool:
    hosts = ctx.provider.observe(host.owner).hosts
    return any(
        candidate.record.uuid == host.uuid and candidate.state == "running" for candidate in hosts
    )


def get_volume(ctx: Context, tenant: str, name: str) -> VolumeRecord:
    """Return the record of a volume.

    :raises NotFound: if the volume does not exist.
    """
    return need_in(ctx.provider.volumes.observe(ctx.owner), tenant, name)


def need_in(volumes: VolumeObservation, tenant: str, name: str) -> VolumeRecord:
    """Return the record of a volume among the observed ones.

    :raises NotFound: if the volume does not exist.
    """
    volume = volumes.find(tenant, name)
    if volume is None:
        raise NotFound(
            "the volume does not exist.", name=f"volume {name}", remedy="create the volume first"
        )
    return volume
