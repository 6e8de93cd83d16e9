# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls about volumes."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from ..guest.security.reader.grammar import Refusal
from .calls import Call, Reply, decode, json_reply
from .events import parse_filters
from .named_volumes import NamedVolume, check_driver, check_volume_name
from .volumes import Volumes

MOUNT_ROOT = "/var/lib/docker/volumes"
# Docker's label of a volume that was created without a name, and the first version of its API that
# prunes only such volumes.
_ANONYMOUS, _PRUNES_ANONYMOUS = "com.docker.volume.anonymous", (1, 42)


class VolumeCalls:
    """The calls of one endpoint about volumes."""

    def __init__(self, volumes: Volumes) -> None:
        self.volumes = volumes

    async def create(self, call: Call, body: bytes) -> Reply:
        """Create a volume; one that exists is returned."""
        request = _parse(body)
        labels = {str(key): str(value) for key, value in (request.get("Labels") or {}).items()}
        name = str(request.get("Name") or "")
        check_driver(str(request.get("Driver") or ""), request.get("DriverOpts"), name)
        if not name:
            name = secrets.token_hex(32)
            if call.version >= _PRUNES_ANONYMOUS:
                labels[_ANONYMOUS] = ""
        check_volume_name(name)
        async with self.volumes.locked([name]):
            if await self.volumes.find(name) is None:
                await self.volumes.create(name, labels)
            return json_reply(_facts(await self._need(name)), HTTPStatus.CREATED)

    async def inspect(self, _call: Call, reference: str) -> Reply:
        """Return the facts of a volume."""
        return json_reply(_facts(await self._need(reference)))

    async def remove(self, call: Call, reference: str) -> Reply:
        """Remove a volume that no container has."""
        async with self.volumes.locked([reference]):
            if not call.flag("force"):
                await self._need(reference)
            if users := self.volumes.users(reference):
                identifiers = ", ".join(container.id for container in users)
                raise Refusal(
                    f"remove {reference}: volume is in use - [{identifiers}]", HTTPStatus.CONFLICT
                )
            await self.volumes.delete(reference)
        return Reply(HTTPStatus.NO_CONTENT)

    async def list_all(self, call: Call) -> Reply:
        """Return the volumes that meet the filters."""
        filters = parse_filters(call.value("filters"))
        volumes = [v for v in await self.volumes.all() if self._meets(v, filters)]
        return json_reply({"Volumes": [_facts(volume) for volume in volumes], "Warnings": None})

    async def prune(self, call: Call) -> Reply:
        """Remove the volumes that no container has and that meet the filters."""
        filters = parse_filters(call.value("filters"))
        is_complete = filters.pop("all", [""])[0].lower() in ("1", "true")
        if call.version >= _PRUNES_ANONYMOUS and not is_complete:
            filters.setdefault("label", []).append(_ANONYMOUS)
        deleted, reclaimed = [], 0
        for volume in await self.volumes.all():
            name = volume.name
            if not self._meets(volume, filters):
                continue
            async with self.volumes.locked([name]):
                if not self.volumes.users(name):
                    reclaimed += await self.volumes.allocated(name)
                    await self.volumes.delete(name)
                    deleted.append(name)
        return json_reply({"VolumesDeleted": deleted or None, "SpaceReclaimed": reclaimed})

    async def usage(self) -> list[dict[str, Any]]:
        """Return the facts of all volumes with the space that they use."""
        usage = []
        for volume in await self.volumes.all():
            size = await self.volumes.allocated(volume.name)
            count = len(self.volumes.users(volume.name))
            usage.append(_facts(volume) | {"UsageData": {"RefCount": count, "Size": size}})
        return usage

    async def _need(self, name: str) -> NamedVolume:
        volume = await self.volumes.find(name)
        if volume is None:
            raise Refusal(f"get {name}: no such volume", HTTPStatus.NOT_FOUND)
        return volume

    def _meets(self, volume: NamedVolume, filters: Mapping[str, list[str]]) -> bool:
        for key, values in filters.items():
            if key in ("label", "label!"):
                matched = [_has_label(volume, value) for value in values]
                is_met = all(matched) if key == "label" else not any(matched)
            elif key == "name":
                is_met = any(value in volume.name for value in values)
            elif key == "driver":
                is_met = "local" in values
            elif key == "dangling":
                is_unused = not self.volumes.users(volume.name)
                is_met = is_unused == (values[0].lower() in ("1", "true"))
            else:
                raise Refusal(f"invalid filter '{key}'")
            if not is_met:
                return False
        return True


def _has_label(volume: NamedVolume, text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in volume.labels and (not equals or volume.labels[key] == value)


def _facts(volume: NamedVolume) -> dict[str, Any]:
    created = datetime.fromtimestamp(int(volume.created), UTC)
    return {
        "CreatedAt": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Driver": "local",
        "Labels": dict(volume.labels) or None,
        "Mountpoint": f"{MOUNT_ROOT}/{volume.name}/_data",
        "Name": volume.name,
        "Options": None,
        "Scope": "local",
    }


def _parse(body: bytes) -> dict[str, Any]:
    request = decode(body or b"{}")
    if not isinstance(request, dict) or not isinstance(request.get("Labels") or {}, dict):
        raise Refusal("the description of the volume is no object")
    return request
