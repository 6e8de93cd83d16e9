# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: what is declared, and what is on record."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..errors import InvalidInput
from . import codec, naming, untrusted

DOCKER_ROOT = "/var/lib/docker"
SIZE_GIB, MOST_GIB = 10, 64 * 1024
VOLUME_PHASES = ("creating", "ready", "deleting")
# Of a volume's file system: not there, begun on a blank disk, there.
BLANK, MAKING, EXT4 = "", "making", "ext4"
HOST = "{host}"
# virtio disks have serial numbers of at most 20 characters.
SERIAL = 20
_PATH = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9._-]{0,63}){1,16}")
# What a guest lives on: nothing may be laid over these, or over what is in them.
SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root",
    "/run", "/sbin", "/sys", "/usr", "/var/cache", "/var/lib/containerd", "/var/lib/dpkg",
    "/var/lib/stockyard", "/var/lib/systemd", "/var/lock", "/var/log", "/var/run",
    "/tmp", "/var/tmp",  # noqa: S108  # what is refused
)  # fmt: skip
# What may not be covered itself.
PARENTS = ("/home", "/mnt", "/opt", "/srv", "/var", "/var/lib")


@dataclass(frozen=True)
class VolumeUse:
    """A volume that a host is to have; a change of it replaces the host.

    :param name: its name; ``{host}`` in it stands for the host's, so that each host of a fleet has
        one of its own.
    :param path: where it is mounted in the host.
    :param size_gib: a smaller one is grown to that; ``None`` makes one of 10, or as its source,
        when it is not there.
    :param source: the volume or snapshot that it is a copy of when it is not there; empty for an
        empty one.
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
    def own(self) -> bool:
        """Whether each host has another one."""
        return HOST in self.name

    def of(self, host: str) -> str:
        """The name of the volume that a host has.

        :raises InvalidInput: when that is too long.
        """
        return naming.name("volume", self.name.replace(HOST, host))


def check_uses(uses: tuple[VolumeUse, ...]) -> None:
    """Refuse volumes that cannot be in one host together."""
    names, paths = [u.name for u in uses], sorted(u.path for u in uses)
    if len(set(names)) != len(names):
        raise InvalidInput("volumes: one is named twice.", remedy="name each volume once")
    for one, other in pairwise(paths):
        if f"{other}/".startswith(f"{one}/"):
            raise InvalidInput(
                f"volumes: {other} cannot be mounted beside {one}.",
                remedy="give each volume a path of its own",
            )


def mount_point(value: Any) -> str:
    """Check the place that a volume is mounted at.

    :raises InvalidInput: for one that the guest lives on, or that is not written plainly.
    """
    if not isinstance(value, str) or not _PATH.fullmatch(value):
        raise InvalidInput(
            f"path: {naming.shown(value)} is not a plain absolute path.",
            remedy="write it as /data/db: letters, digits and . _ -, no name with a dot first",
        )
    if value in PARENTS or any(f"{value}/".startswith(f"{taken}/") for taken in SYSTEM):
        raise InvalidInput(
            f"path: the host needs {value} itself.",
            remedy=f"mount it at {DOCKER_ROOT}, or at /data",
        )
    return value


def size(value: Any) -> int:
    """Check a size in GiB."""
    return naming.whole("size_gib", value, 1, MOST_GIB)


@dataclass(frozen=True)
class VolumeSpec:
    """A declared volume.

    :param size_gib: it is grown to that, never shrunk; ``None`` leaves it, and makes one of 10, or
        as its source.
    :param source: the volume or snapshot that it is a copy of when it is made; empty for an empty
        one.
    :param snapshot: whether it is a snapshot: it is copied, and never changed or attached.
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
                "a volume cannot be a copy of itself.",
                name=f"volume {self.name}",
                remedy="name another",
            )
        if self.snapshot and not self.source:
            raise InvalidInput(
                "a snapshot is of a volume.",
                name=f"volume {self.name}",
                remedy="name the volume in source",
            )


@dataclass(frozen=True)
class Holder:
    """Who has a volume.

    :param uuid: the host's.
    :param host: its name.
    :param path: where it is mounted there.
    :param mounted: whether it was mounted.
    :param declared: whether it is part of what the host is declared to be; else it was attached to
        it by hand.
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
    """What the hypervisor knows of one volume.

    :param phase: ``creating``, ``ready`` or ``deleting``.
    :param created: seconds since the epoch.
    :param version: counts every change, for compare and set.
    :param filesystem: nothing, ``making`` (begun on a blank disk) or ``ext4``. Nobody can write
        before it is that.
    :param source: what it was copied from.
    :param holder: the one host that may write.
    :param encryption: the uuid that its key is made for, its own or that of what it is a copy of;
        empty: in clear.
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
    holder: Holder | None = None
    encryption: str = ""

    kind = "volume"

    def __post_init__(self) -> None:
        for what, value in (("owner", self.owner), ("tenant", self.tenant), ("volume", self.name)):
            naming.name(what, value)
        naming.identifier(self.uuid)
        size(self.size_gib)
        naming.choice("phase", self.phase, VOLUME_PHASES)
        naming.choice("filesystem", self.filesystem, (BLANK, MAKING, EXT4))
        naming.moment("created", self.created)
        naming.whole("version", self.version, 0, naming.VERSION_MAX)
        if self.source:
            naming.name("source", self.source)
        if self.encryption:
            naming.identifier(self.encryption)

    @property
    def key(self) -> tuple[str, str]:
        """Tenant and name."""
        return (self.tenant, self.name)

    @property
    def serial(self) -> str:
        """The serial number of its disk, by which a guest knows it."""
        return self.uuid.replace("-", "")[:SERIAL]

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"{'snapshot' if self.snapshot else 'volume'} {self.name}"


def encode(record: VolumeRecord) -> str:
    """A record as one line of JSON."""
    return codec.dumps({"kind": record.kind, **codec.to_dict(record)})


def decode(text: str) -> VolumeRecord:
    """A line of JSON as a record.

    :raises InvalidInput: when it is not a whole record of a volume.
    """
    try:
        data = untrusted.parse(text)
    except untrusted.MalformedData as error:
        raise InvalidInput("the record is not JSON.", cause=str(error)) from error
    if not isinstance(data, dict) or data.pop("kind", None) != VolumeRecord.kind:
        raise InvalidInput("the record is not a volume's.")
    return codec.from_dict(VolumeRecord, data, "volume record")
