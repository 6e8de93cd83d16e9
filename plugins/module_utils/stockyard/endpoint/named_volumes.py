# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named volumes of Docker, and the port to the disks that hold their data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..guest.security.reader.grammar import Refusal

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
# The longest name of a file, and of a label of a volume.
LONGEST_NAME = 255


@dataclass(frozen=True)
class NamedVolume:
    """One named volume.

    :param name: its name in Docker.
    :param labels: its labels in Docker.
    :param created: seconds since the epoch.
    :param machine: the name of the machine that it is attached to; empty if there is none.
    :param mounted: whether it is mounted there.
    :param blank: whether it was never mounted.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    created: float = 0.0
    machine: str = ""
    mounted: bool = False
    blank: bool = True


class VolumeStore(Protocol):
    """The named volumes of one endpoint. Each method raises a ``StockyardError`` if the hypervisor
    or the machine fails.
    """

    async def all(self) -> list[NamedVolume]:
        """Return the volumes."""

    async def create(self, name: str, labels: Mapping[str, str]) -> None:
        """Create an empty volume. A volume that exists is no error."""

    async def delete(self, name: str) -> None:
        """Delete a volume and its data. A volume that does not exist is no error."""

    async def allocated(self, name: str) -> int:
        """Return the storage that a volume uses, in bytes."""

    async def attach(self, name: str, machine: str, path: str) -> None:
        """Attach a volume to a machine that runs, and mount it there.

        :param path: the mount point.
        """

    async def detach(self, name: str) -> None:
        """Unmount a volume, and detach it. A volume that is not attached is no error."""


def check_volume_name(name: str) -> str:
    """Return a valid name of a volume.

    :raises Refusal: if it is no name, in Docker's words.
    """
    if not _NAME.fullmatch(name):
        raise Refusal(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )
    if len(name) == 1:
        raise Refusal(
            f"create {name}: volume name is too short, names should be at least two alphanumeric "
            "characters"
        )
    if len(name) > LONGEST_NAME:
        raise Refusal(
            f"create {name}: the name of a volume has at most {LONGEST_NAME} characters on this "
            "endpoint."
        )
    return name


def named_volumes(config: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the named volumes of a new container, each with the labels for its creation.

    :raises Refusal: if a name is invalid, or a volume needs a driver or options.
    """
    host = config.get("HostConfig") or {}
    binds = [str(bind).split(":") for bind in host.get("Binds") or ()]
    sources = [parts[0] for parts in binds if len(parts) > 1 and not parts[0].startswith("/")]
    if sources:
        check_driver(str(host.get("VolumeDriver") or ""), None, sources[0])
    volumes: dict[str, dict[str, str]] = {check_volume_name(source): {} for source in sources}
    for mount in host.get("Mounts") or ():
        source = str(mount.get("Source") or "")
        if mount.get("Type") != "volume" or not source:
            continue
        options = mount.get("VolumeOptions") or {}
        driver = options.get("DriverConfig") or {}
        check_driver(str(driver.get("Name") or ""), driver.get("Options"), source)
        volumes[check_volume_name(source)] = dict(options.get("Labels") or {})
    return volumes


def check_driver(driver: str, options: Any, name: str) -> None:
    """Refuse a volume that is not plain data of this endpoint.

    :raises Refusal: if it needs another driver, in Docker's words, or options.
    """
    if driver not in ("", "local"):
        raise Refusal(
            f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found',
            404,
        )
    if options:
        raise Refusal(
            f"create {name}: driver options are not possible, because a volume is a disk of the "
            "container's virtual machine. Create the volume without options."
        )
