# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volumes of branched hosts: a child gets a copy of each volume of its parent, or none.

A copy is a volume like others: it is retained when the child is deleted. Only the copies of a child
that never became ready are deleted with it.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import replace

from ...clock import Deadline
from ...errors import OperationRefused, Unsupported
from ...guest.client import Guest
from ...model import naming
from ...model.branch import BranchRecord, BranchSpec, BranchVolume
from ...model.host import HostRecord
from ...model.observation import Observation
from ...model.template import TemplateRecord
from ...model.volume import DOCKER_ROOT, EXT4, HOST, Attachment, VolumeRecord, VolumeUse
from ..context import Context
from . import attachment, volume_lifecycle


def check(ctx: Context, parent: HostRecord, volumes: Sequence[VolumeRecord], action: str) -> None:
    """Refuse a parent whose volumes cannot be branched.

    :param volumes: the volumes that are attached to the parent.
    :param action: ``copy`` or ``none``.
    :raises StockyardError: with the reason.
    """
    if volumes and not ctx.provider.capabilities.branches_volumes:
        raise Unsupported(
            "this hypervisor cannot branch a host with volumes.",
            name=parent.title,
            remedy="detach its volumes, and run again",
        )
    for volume in volumes:
        if volume.encryption_id:
            raise Unsupported(
                "a host with an encrypted volume cannot be branched.",
                name=parent.title,
                cause=f"the key of {volume.title} is in the memory of the host, and each child "
                "would have it",
                remedy="detach the volume, and run again",
            )
        if not (volume.attachment and volume.attachment.mounted and volume.phase == "ready"):
            raise OperationRefused(
                "a volume is being attached to the host, or detached from it.",
                name=parent.title,
                cause=volume.title,
                remedy="complete that, and run again",
            )
        if action == "none" and volume.attachment.path == DOCKER_ROOT:
            raise Unsupported(
                "a child without its volume would have no Docker.",
                name=parent.title,
                cause=f"{volume.title} contains Docker's data, at {DOCKER_ROOT}",
                remedy="set volumes to copy",
            )


def check_names(
    spec: BranchSpec,
    parent: HostRecord,
    volumes: Sequence[VolumeRecord],
    children: Collection[str],
    observation: Observation,
) -> None:
    """Refuse children whose copies of volumes cannot have their names.

    :param children: the names of the children to create.
    :raises OperationRefused: if a volume of the name exists, unless an incomplete child left it; or
        if two copies would have one name.
    :raises InvalidInput: if a name is too long.
    """
    if spec.volumes != "copy":
        return
    incomplete_uuids = {
        host.record.uuid
        for host in observation.of_tenant(spec.tenant)
        if host.record.name in children and host.record.phase == "creating"
    }
    for child in children:
        names = [name_of(volume.name, parent, child) for volume in volumes]
        if len(set(names)) < len(names):
            raise OperationRefused(
                "the copies of two volumes would have the same name.",
                name=f"host {child}",
                cause=", ".join(sorted(volume.name for volume in volumes)),
                remedy="detach one of the volumes, and run again",
            )
        for volume, name in zip(volumes, names, strict=True):
            existing_volume = observation.volumes.find(spec.tenant, name)
            if existing_volume and not _incomplete(existing_volume, incomplete_uuids):
                raise OperationRefused(
                    f"the copy of {volume.title} needs the name of another volume.",
                    name=f"host {child}",
                    cause=f"volume {name} exists: volumes are retained when their hosts are "
                    "deleted",
                    remedy=f"delete volume {name}, or choose another name for the child",
                )


def _incomplete(volume: VolumeRecord, child_uuids: Collection[str]) -> bool:
    """Return whether a volume belongs to a child that will be created again."""
    holder = volume.attachment.uuid if volume.attachment else ""
    return holder in child_uuids or volume.phase != "ready"


def name_of(volume: str, parent: HostRecord, child: str) -> str:
    """Return the name of a child's copy of a volume: a volume that is named after the parent gets
    the same name after the child.

    :raises InvalidInput: if it is too long.
    """
    return naming.name("volume", _pattern(volume, parent).replace(HOST, child))


def uses_of_child(parent: HostRecord, action: str) -> tuple[VolumeUse, ...]:
    """Return the volumes in the declaration of a child. They exist before the child starts.

    :param action: ``copy`` or ``none``.
    """
    if action == "none":
        return ()
    return tuple(
        replace(use, name=_pattern(use.of(parent.name), parent), source="")
        for use in parent.spec.volumes
    )


def _pattern(volume: str, parent: HostRecord) -> str:
    """Return the name of a volume of a host with ``{host}`` in place of the host's."""
    for use in parent.spec.volumes:
        if use.differs_by_host and use.of(parent.name) == volume:
            return use.name
    return f"{HOST}-{volume.removeprefix(f'{parent.name}-')}"


def create_copies(
    ctx: Context, child: HostRecord, branch: BranchRecord, parent: HostRecord, deadline: Deadline
) -> list[VolumeRecord]:
    """Create a copy of each volume of a branch for a reserved child, and attach it on record.

    A copy is incomplete until :func:`adopt`.
    """
    return [_copy(ctx, child, branch, volume, parent, deadline) for volume in branch.volumes]


def _copy(
    ctx: Context,
    child: HostRecord,
    branch: BranchRecord,
    volume: BranchVolume,
    parent: HostRecord,
    deadline: Deadline,
) -> VolumeRecord:
    name = name_of(volume.name, parent, child.name)
    declared_names = {use.of(child.name) for use in child.spec.volumes}
    record = VolumeRecord(
        owner=child.owner,
        tenant=child.tenant,
        name=name,
        uuid=str(uuid.uuid4()),
        size_gib=volume.size_gib,
        phase="creating",
        created=ctx.clock.now(),
        filesystem=EXT4,
        source=volume.name,
        attachment=Attachment(child.uuid, child.name, volume.path, declared=name in declared_names),
    )
    with volume_lifecycle.exclusive(ctx, child.tenant, name, deadline):
        incomplete_volume = ctx.provider.volumes.observe(ctx.owner).find(child.tenant, name)
        if incomplete_volume and incomplete_volume.phase != "ready":
            _delete(ctx, incomplete_volume)
        ctx.provider.branches.copy_volume(record, branch, deadline)
    ctx.progress(f"{record.title}: created from volume {volume.name} of {branch.title}")
    return record


def adopt(ctx: Context, child: HostRecord, copies: Sequence[VolumeRecord], guest: Guest) -> None:
    """Let the guest of a child use its copies, which are mounted since the fork, after each boot
    too. The copies are complete then.
    """
    for record in sorted(copies, key=lambda volume: volume.name):
        if record.attachment:
            volume = attachment.attach(ctx, child, record, record.attachment, guest)
            ctx.provider.volumes.claim(volume, phase="ready")


def drop(
    ctx: Context, child: HostRecord | TemplateRecord, branch: BranchRecord, guest: Guest
) -> None:
    """Unmount the volumes of the parent in a child, and unplug their disks."""
    for volume in sorted(branch.volumes, key=lambda record: record.path, reverse=True):
        guest.volume_drop(volume.path)
    ctx.provider.branches.drop_volumes(child, branch, guest.deadline)


def mark_deleted(ctx: Context, child: HostRecord) -> list[VolumeRecord]:
    """Put on record that the copies of a child that never became ready are deleted with it; return
    them.
    """
    return [
        ctx.provider.volumes.claim(volume, phase="deleting")
        for volume in attachment.held_by(ctx, child)
    ]


def delete(ctx: Context, copies: Sequence[VolumeRecord]) -> None:
    """Delete the copies of a child that is deleted."""
    for volume in copies:
        _delete(ctx, volume)


def _delete(ctx: Context, volume: VolumeRecord) -> None:
    ctx.provider.volumes.claim(volume, phase="deleting", attachment=None)
    ctx.provider.volumes.destroy(volume)
    ctx.progress(f"{volume.title}: deleted")
