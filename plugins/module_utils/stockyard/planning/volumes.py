# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done for a volume: a pure function of what is declared and what is there."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..errors import InvalidInput, OperationRefused
from ..model.observation import VolumeObservation
from ..model.volume import SIZE_GIB, VolumeRecord, VolumeSpec
from .plan import Action, Plan, gone

HALF = {"creating": "it was left half-made", "deleting": "it was left half-destroyed"}


def plan_volume(spec: VolumeSpec, seen: VolumeObservation) -> Plan:
    """Have a volume as declared.

    :raises InvalidInput: when it cannot become so: volumes never shrink, and copies are made once.
    """
    found = seen.find(spec.tenant, spec.name)
    if found is None or found.phase != "ready":
        reason = HALF[found.phase] if found else "there is none"
        return Plan((Action("create", "volume", spec.name, reason, {}, wanted(spec, seen)),))
    if found.snapshot != spec.snapshot:
        raise InvalidInput(
            f"it is {'a snapshot' if found.snapshot else 'no snapshot'}.",
            name=found.title,
            remedy="give it another name",
        )
    if spec.size_gib is None or spec.size_gib == found.size_gib:
        return Plan()
    if spec.size_gib < found.size_gib or found.snapshot:
        raise InvalidInput(
            f"it has {found.size_gib} GiB, and {spec.size_gib} are declared.",
            name=found.title,
            cause="a volume is not shrunk, and a snapshot is not changed",
            remedy="declare its size, or make another",
        )
    before, after = {"size_gib": found.size_gib}, {"size_gib": spec.size_gib}
    return Plan((Action("grow", "volume", spec.name, "it is too small", before, after),))


def wanted(spec: VolumeSpec, seen: VolumeObservation) -> dict[str, Any]:
    """A volume as it will be made."""
    return {
        "size_gib": size_of(spec, seen.find(spec.tenant, spec.source) if spec.source else None),
        "source": spec.source,
        "snapshot": spec.snapshot,
    }


def size_of(spec: VolumeSpec, source: VolumeRecord | None) -> int:
    """How large it is made.

    :raises InvalidInput: when that is less than its source has.
    """
    least = source.size_gib if source else 1
    chosen = spec.size_gib or (source.size_gib if source else SIZE_GIB)
    if chosen < least or (spec.snapshot and chosen != least):
        raise InvalidInput(
            f"its source has {least} GiB, and {chosen} are declared.",
            name=f"volume {spec.name}",
            remedy="leave size_gib out, or give at least as much; a snapshot is as large as what "
            "it is of",
        )
    return chosen


def plan_removal(
    found: VolumeRecord | None, living: Collection[str] | None, reason: str = "it is to be absent"
) -> Plan:
    """Delete a volume.

    :param living: uuids of the hosts that there are; ``None`` where that is not known.
    :raises Refused: when a host has it.
    """
    if found is None:
        return Plan()
    refuse_if_held(found, living, "it cannot be deleted")
    return Plan((gone("volume", found.name, reason, as_it_is(found)),))


def refuse_if_held(found: VolumeRecord, living: Collection[str] | None, what: str) -> None:
    """Refuse something where a host that lives, or may live, has the volume; it is named."""
    if found.holder and (living is None or found.holder.uuid in living):
        raise OperationRefused(
            f"{what}: host {found.holder.host} has it.",
            name=found.title,
            cause=f"it is for {found.holder.path} there",
            remedy=f"detach it from {found.holder.host}, or destroy that host; the volume stays",
        )


def as_it_is(found: VolumeRecord) -> dict[str, Any]:
    """A volume as a plan shows it."""
    return {"size_gib": found.size_gib, "filesystem": found.filesystem, "source": found.source}
