# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: declaration and record."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ..errors import InvalidInput
from . import naming
from .codec import SPARSE

DOCKER_ROOT = "/var/lib/docker"
SIZE_GIB, MOST_GIB = 10, 64 * 1024
VOLUME_PHASES = ("creating", "ready", "deleting")
# States of a volume's file system: missing, begun on a blank disk, complete.
BLANK, MAKING, EXT4 = "", "making", "ext4"
HOST = "{host}"
# virtio disks have serial numbers of at most 20 characters.
SERIAL = 20
_PATH = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9._-]{0,254}){1,16}")
LONGEST_PATH = 1024
# Directories that a guest needs: nothing can be mounted on them or below them.
SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root",
    "/run", "/sbin", "/sys", "/usr", "/var/cache", "/var/lib/containerd", "/var/lib/dpkg",
    "/var/lib/stockyard", "/var/lib/systemd", "/var/lock", "/var/log", "/var/run",
    "/tmp", "/var/tmp",  # noqa: S108  # what is refused
)  # fmt: skip
# Directories that allow mount points below them, but not on them.
PARENTS = ("/home", "/mnt", "/opt", "/srv", "/var", "/var/lib")


@dataclass(frozen=True)
class VolumeUse:
    """A volume of a host's declaration; a change of it replaces the host.

    :param name: its name; ``{host}`` in it stands for the host's, so that each host of a fleet has
        a volume of its own.
    :param path: its mount point in the host.
    :param size_gib: a smaller volume is enlarged to it; ``None`` creates a missing volume with 10,
        or with the size of its source.
    :param source: the volume or snapshot that a missing volume is copied from; empty for an empty
        volume.
    """

    name: str
    path: str = DOCKER_ROOT
    size_gib: int | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if self.name.count(HOST) > 1:
            raise InvalidInput(
                f"{naming.shown(self.name)} is not a volume name.",
                remedy=f"write {HOST} at most once",
            )
        naming.name("volume", self.name.replace(HOST, "h"))
        mount_point(self.path)
        if self.size_gib is not None:
            size(self.size_gib)
        if self.source:
            naming.name("source", self.source)

    @property
    def differs_by_host(self) -> bool:
        """Return whether each host has a different volume."""
        return HOST in self.name

    def of(self, host: str) -> str:
        """Return the name of the volume of a host.

        :raises InvalidInput: if the name is too long.
        """
        return naming.name("volume", self.name.replace(HOST, host))


def check_uses(uses: tuple[VolumeUse, ...]) -> None:
    """Refuse volumes that cannot be in one host together."""
    names, paths = [use.name for use in uses], sorted(use.path for use in uses)
    if len(set(names)) != len(names):
        raise InvalidInput(
            "volumes: a volume is declared twice.", remedy="declare each volume once"
        )
    for outer, inner in pairwise(paths):
        if f"{inner}/".startswith(f"{outer}/"):
            raise InvalidInput(
                f"volumes: {inner} cannot be mounted together with {outer}.",
                remedy="declare a separate path for each volume",
            )


def mount_point(value: Any) -> str:
    """Check the mount point of a volume.

    :raises InvalidInput: for a directory that the guest needs, or a path that is not written
        plainly.
    """
    if not isinstance(value, str) or len(value) > LONGEST_PATH or not _PATH.fullmatch(value):
        raise InvalidInput(
            f"path: {naming.shown(value)} is not a plain absolute path.",
            remedy="write a path such as /data/db: letters, digits and . _ -, no name that "
            "begins with a dot",
        )
    if value in PARENTS or any(f"{value}/".startswith(f"{directory}/") for directory in SYSTEM):
        raise InvalidInput(
            f"path: {value} is used by the host itself.",
            remedy=f"choose {DOCKER_ROOT}, or a path such as /data",
        )
    return value


def serial_of(uuid: str) -> str:
    """Return the serial number of the disk of a volume, by the uuid of the volume."""
    return uuid.replace("-", "")[:SERIAL]


def size(value: Any) -> int:
    """Check a size in GiB."""
    return naming.whole("size_gib", value, 1, MOST_GIB)


@dataclass(frozen=True)
class VolumeSpec:
    """A declared volume.

    :param size_gib: the volume is enlarged to it, never shrunk; ``None`` does not resize it, and
        creates it with 10, or with the size of its source.
    :param source: the volume or snapshot that a new volume is copied from; empty for an empty
        volume.
    :param snapshot: whether it is a snapshot: it can be copied, and is never changed or attached.
    """

    name: str
    tenant: str = "default"
    size_gib: int | None = None
    source: str = ""
    snapshot: bool = False

    def __post_init__(self) -> None:
        naming.name("volume", self.name)
        naming.name("tenant", self.tenant)
        if self.size_gib is not None:
            size(self.size_gib)
        if self.source:
            naming.name("source", self.source)
        if self.source == self.name:
            raise InvalidInput(
                "a volume cannot be its own source.",
                name=f"volume {self.name}",
                remedy="declare another source",
            )
        if self.snapshot and not self.source:
            raise InvalidInput(
                "a snapshot needs a source.",
                name=f"volume {self.name}",
                remedy="declare the volume in source",
            )


@dataclass(frozen=True)
class Attachment:
    """The host that a volume is attached to.

    :param uuid: the host's uuid.
    :param host: its name.
    :param path: the mount point in the host.
    :param mounted: whether it was mounted.
    :param declared: whether it is part of the host's declaration; else a user attached it.
    """

    uuid: str
    host: str
    path: str
    mounted: bool = False
    declared: bool = False

    def __post_init__(self) -> None:
        naming.identifier(self.uuid)
        naming.name("host", self.host)
        mount_point(self.path)


@dataclass(frozen=True)
class VolumeRecord:
    """The record of one volume on the hypervisor.

    :param phase: ``creating``, ``ready`` or ``deleting``.
    :param created: seconds since the epoch.
    :param version: counts every change, for compare and set.
    :param filesystem: nothing, ``making`` (begun on a blank disk) or ``ext4``. No host can write
        before it is ``ext4``.
    :param source: the volume that it was copied from.
    :param attachment: the one host that can write; ``None`` if no host has the volume.
    :param encryption_id: the uuid that its key is derived for, its own or that of its source; empty
        if it is not encrypted.
    :param labels: the labels of an endpoint, if it created the volume.
    """

    owner: str
    tenant: str
    name: str
    uuid: str
    size_gib: int
    phase: str
    created: float
    version: int = 1
    filesystem: str = BLANK
    source: str = ""
    snapshot: bool = False
    attachment: Attachment | None = None
    encryption_id: str = ""
    labels: dict[str, str] = field(default_factory=dict, metadata=SPARSE)

    kind = "volume"

    def __post_init__(self) -> None:
        for attribute, value in (
            ("owner", self.owner),
            ("tenant", self.tenant),
            ("volume", self.name),
        ):
            naming.name(attribute, value)
        naming.identifier(self.uuid)
        size(self.size_gib)
        naming.choice("phase", self.phase, VOLUME_PHASES)
        naming.choice("filesystem", self.filesystem, (BLANK, MAKING, EXT4))
        naming.moment("created", self.created)
        naming.whole("version", self.version, 0, naming.VERSION_MAX)
        if self.source:
            naming.name("source", self.source)
        if self.encryption_id:
            naming.identifier(self.encryption_id)
        naming.labels(self.labels)

    @property
    def key(self) -> tuple[str, str]:
        """Return tenant and name."""
        return (self.tenant, self.name)

    @property
    def serial(self) -> str:
        """Return the serial number of its disk, by which a guest identifies it."""
        return serial_of(self.uuid)

    @property
    def title(self) -> str:
        """Return its name in messages."""
        return f"{'snapshot' if self.snapshot else 'volume'} {self.name}"
