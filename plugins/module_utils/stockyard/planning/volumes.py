# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a volume: a pure function of the declaration and the observation."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..errors import InvalidInput, OperationRefused
from ..model.observation import VolumeObservation
from ..model.volume import SIZE_GIB, VolumeRecord, VolumeSpec
from .plan import Action, Plan, delete_action

INCOMPLETE = {
    "creating": "its creation was interrupted",
    "deleting": "its deletion was interrupted",
}


def plan_volume(spec: VolumeSpec, observation: VolumeObservation) -> Plan:
    """Return the plan that creates a volume or resizes it as declared.

    :raises InvalidInput: if that is impossible: volumes never shrink, and a copy is created only
        once.
    """
    volume = observation.find(spec.tenant, spec.name)
    if volume is None or volume.phase != "ready":
        reason = INCOMPLETE[volume.phase] if volume else "it does not exist"
        return Plan(
            (Action("create", "volume", spec.name, reason, {}, desired_volume(spec, observation)),)
        )
    if volume.snapshot != spec.snapshot:
        raise InvalidInput(
            f"the volume is {'a snapshot' if volume.snapshot else 'no snapshot'}.",
            name=volume.title,
            remedy="choose another name",
        )
    if spec.size_gib is None or spec.size_gib == volume.size_gib:
        return Plan()
    if spec.size_gib < volume.size_gib or volume.snapshot:
        raise InvalidInput(
            f"the volume has {volume.size_gib} GiB, and {spec.size_gib} GiB are declared.",
            name=volume.title,
            cause="a volume never shrinks, and a snapshot never changes",
            remedy="declare the present size, or create another volume",
        )
    before, after = {"size_gib": volume.size_gib}, {"size_gib": spec.size_gib}
    return Plan(
        (Action("resize", "volume", spec.name, "it is smaller than declared", before, after),)
    )


def desired_volume(spec: VolumeSpec, observation: VolumeObservation) -> dict[str, Any]:
    """Return a volume as it will be created."""
    return {
        "size_gib": size_of(
            spec, observation.find(spec.tenant, spec.source) if spec.source else None
        ),
        "source": spec.source,
        "snapshot": spec.snapshot,
    }


def size_of(spec: VolumeSpec, source: VolumeRecord | None) -> int:
    """Return the size of a new volume in GiB.

    :raises InvalidInput: if it is less than the size of the source.
    """
    minimum = source.size_gib if source else 1
    size_gib = spec.size_gib or (source.size_gib if source else SIZE_GIB)
    if size_gib < minimum or (spec.snapshot and size_gib != minimum):
        raise InvalidInput(
            f"the source has {minimum} GiB, and {size_gib} GiB are declared.",
            name=f"volume {spec.name}",
            remedy="omit size_gib, or declare at least the size of the source; a snapshot "
            "has exactly the size of its source",
        )
    return size_gib


def plan_removal(
    volume: VolumeRecord | None,
    host_uuids: Collection[str] | None,
    reason: str = "it is declared absent",
) -> Plan:
    """Return the plan that deletes a volume.

    :param host_uuids: uuids of the existing hosts; ``None`` if unknown.
    :raises OperationRefused: if the volume is attached to a host.
    """
    if volume is None:
        return Plan()
    refuse_if_held(volume, host_uuids, "the volume cannot be deleted")
    return Plan((delete_action("volume", volume.name, reason, as_it_is(volume)),))


def refuse_if_held(volume: VolumeRecord, host_uuids: Collection[str] | None, problem: str) -> None:
    """Refuse an operation if the volume is attached to a host that exists, or may exist; the error
    names the host.
    """
    if volume.attachment and (host_uuids is None or volume.attachment.uuid in host_uuids):
        raise OperationRefused(
            f"{problem}: it is attached to host {volume.attachment.host}.",
            name=volume.title,
            cause=f"the host uses it at {volume.attachment.path}",
            remedy=f"detach it from {volume.attachment.host}, or delete that host; the volume is "
            "retained",
        )


def as_it_is(volume: VolumeRecord) -> dict[str, Any]:
    """Return a volume as a plan shows it."""
    return {"size_gib": volume.size_gib, "filesystem": volume.filesystem, "source": volume.source}
