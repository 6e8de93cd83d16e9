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
from .plan import Action, Plan, gone

HALF = {"creating": "it was left half-made", "deleting": "it was left half-destroyed"}


def plan_volume(spec: VolumeSpec, observation: VolumeObservation) -> Plan:
    """Return the plan that creates a volume or resizes it as declared.

    :raises InvalidInput: if that is impossible: volumes never shrink, and a copy is created only
        once.
    """
    volume = observation.find(spec.tenant, spec.name)
    if volume is None or volume.phase != "ready":
        reason = HALF[volume.phase] if volume else "there is none"
        return Plan((Action("create", "volume", spec.name, reason, {}, wanted(spec, observation)),))
    if volume.snapshot != spec.snapshot:
        raise InvalidInput(
            f"it is {'a snapshot' if volume.snapshot else 'no snapshot'}.",
            name=volume.title,
            remedy="give it another name",
        )
    if spec.size_gib is None or spec.size_gib == volume.size_gib:
        return Plan()
    if spec.size_gib < volume.size_gib or volume.snapshot:
        raise InvalidInput(
            f"it has {volume.size_gib} GiB, and {spec.size_gib} are declared.",
            name=volume.title,
            cause="a volume is not shrunk, and a snapshot is not changed",
            remedy="declare its size, or make another",
        )
    before, after = {"size_gib": volume.size_gib}, {"size_gib": spec.size_gib}
    return Plan((Action("grow", "volume", spec.name, "it is too small", before, after),))


def wanted(spec: VolumeSpec, observation: VolumeObservation) -> dict[str, Any]:
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
            f"its source has {minimum} GiB, and {size_gib} are declared.",
            name=f"volume {spec.name}",
            remedy="leave size_gib out, or give at least as much; a snapshot is as large as what "
            "it is of",
        )
    return size_gib


def plan_removal(
    volume: VolumeRecord | None,
    host_uuids: Collection[str] | None,
    reason: str = "it is to be absent",
) -> Plan:
    """Return the plan that deletes a volume.

    :param host_uuids: uuids of the existing hosts; ``None`` if unknown.
    :raises OperationRefused: if the volume is attached to a host.
    """
    if volume is None:
        return Plan()
    refuse_if_held(volume, host_uuids, "it cannot be deleted")
    return Plan((gone("volume", volume.name, reason, as_it_is(volume)),))


def refuse_if_held(volume: VolumeRecord, host_uuids: Collection[str] | None, problem: str) -> None:
    """Refuse an operation if the volume is attached to a host that exists, or may exist; the error
    names the host.
    """
    if volume.attachment and (host_uuids is None or volume.attachment.uuid in host_uuids):
        raise OperationRefused(
            f"{problem}: host {volume.attachment.host} has it.",
            name=volume.title,
            cause=f"it is for {volume.attachment.path} there",
            remedy=f"detach it from {volume.attachment.host}, or destroy that host; "
            "the volume stays",
        )


def as_it_is(volume: VolumeRecord) -> dict[str, Any]:
    """Return a volume as a plan shows it."""
    return {"size_gib": volume.size_gib, "filesystem": volume.filesystem, "source": volume.source}
