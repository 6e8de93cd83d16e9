# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The named volumes of an endpoint on a yard: volumes with the label of the endpoint."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping

from ..errors import InvalidInput, NotFound
from ..model import untrusted
from ..model.container_machine import ENDPOINT_LABEL
from ..model.volume import BLANK, VolumeRecord, VolumeSpec
from ..resources.context import Context
from ..resources.volumes.volume_lifecycle import (
    VolumeAttachment,
    VolumeConvergence,
    VolumeDeletion,
    VolumeDetachment,
)
from .named_volumes import NamedVolume

# The name in Docker, and the start of the labels that hold the labels in Docker as JSON.
NAME_LABEL, LABELS_PREFIX = "stockyard.endpoint/volume", "stockyard.endpoint/volume-labels."
# The characters of one label, and the most labels that hold the labels in Docker.
PART, MOST_PARTS = 255, 64
# Seconds for a change of a volume.
PATIENCE = 600.0


class YardVolumes:
    """The named volumes of an endpoint on a yard.

    :param endpoint: the name of the endpoint.
    """

    def __init__(self, ctx: Context, tenant: str, endpoint: str) -> None:
        self.ctx = ctx
        self.tenant = tenant
        self.endpoint = endpoint

    async def all(self) -> list[NamedVolume]:
        """Return the volumes."""
        return await asyncio.to_thread(self._all)

    async def create(self, name: str, labels: Mapping[str, str]) -> None:
        """Create an empty volume, if it does not exist."""
        spec = VolumeSpec(self._stored_name(name), tenant=self.tenant)
        stored_labels = {ENDPOINT_LABEL: self.endpoint, NAME_LABEL: name, **_encode(labels)}
        operation = VolumeConvergence(self.ctx, spec, stored_labels)
        await asyncio.to_thread(operation.apply, self.ctx.deadline(PATIENCE))

    async def delete(self, name: str) -> None:
        """Delete a volume and its data."""
        operation = VolumeDeletion(self.ctx, self.tenant, self._stored_name(name))
        await asyncio.to_thread(operation.apply, self.ctx.deadline(PATIENCE))

    async def allocated(self, name: str) -> int:
        """Return the storage that a volume uses, in bytes."""

        def read() -> int:
            record = self._find(name)
            return self.ctx.provider.volumes.facts(record).allocated if record else 0

        return await asyncio.to_thread(read)

    async def attach(self, name: str, machine: str, path: str) -> None:
        """Attach a volume to a machine, and mount it there."""

        def attach() -> None:
            if self._find(name) is None:
                raise NotFound("the volume does not exist.", name=f"volume {name}")
            spec = VolumeSpec(self._stored_name(name), tenant=self.tenant)
            operation = VolumeAttachment(self.ctx, spec, machine, path)
            operation.apply(self.ctx.deadline(PATIENCE))

        await asyncio.to_thread(attach)

    async def detach(self, name: str) -> None:
        """Unmount a volume, and detach it."""
        operation = VolumeDetachment(self.ctx, self.tenant, self._stored_name(name))
        await asyncio.to_thread(operation.apply, self.ctx.deadline(PATIENCE))

    def _all(self) -> list[NamedVolume]:
        if not self.ctx.provider.capabilities.volumes:
            return []
        observation = self.ctx.provider.observe(self.ctx.owner)
        host_uuids = observation.host_uuids
        return [
            _named(record, host_uuids)
            for record in observation.volumes.volumes
            if self._is_own(record)
        ]

    def _find(self, name: str) -> VolumeRecord | None:
        volumes = self.ctx.provider.volumes.observe(self.ctx.owner)
        record = volumes.find(self.tenant, self._stored_name(name))
        return record if record and self._is_own(record) else None

    def _is_own(self, record: VolumeRecord) -> bool:
        is_complete = record.tenant == self.tenant and record.phase == "ready"
        return is_complete and record.labels.get(ENDPOINT_LABEL) == self.endpoint

    def _stored_name(self, name: str) -> str:
        """Return the name on the hypervisor: Docker's can have characters that it cannot have."""
        return f"{self.endpoint}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _named(record: VolumeRecord, host_uuids: frozenset[str] | None) -> NamedVolume:
    holder = record.attachment
    if holder and host_uuids is not None and holder.uuid not in host_uuids:
        holder = None
    return NamedVolume(
        record.labels.get(NAME_LABEL, record.name),
        _decode(record.labels),
        record.created,
        holder.host if holder else "",
        holder.mounted if holder else False,
        record.filesystem == BLANK,
    )


def _encode(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels in Docker, which can be of any length, as labels of a record.

    :raises InvalidInput: if they are too long together.
    """
    if not labels:
        return {}
    text = json.dumps(dict(labels), separators=(",", ":"))
    parts = [text[start : start + PART] for start in range(0, len(text), PART)]
    if len(parts) > MOST_PARTS:
        raise InvalidInput(
            f"the labels of the volume have more than {PART * MOST_PARTS} characters.",
            remedy="use shorter labels",
        )
    return {f"{LABELS_PREFIX}{number}": part for number, part in enumerate(parts)}


def _decode(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels in Docker; none if they cannot be read."""
    numbers = range(MOST_PARTS)
    text = "".join(labels.get(f"{LABELS_PREFIX}{number}", "") for number in numbers)
    try:
        return {str(key): str(value) for key, value in untrusted.parse(text or "{}").items()}
    except (untrusted.MalformedData, AttributeError):
        return {}
