# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Branches: the frozen state of a host that continues to run."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import InvalidInput
from . import naming, volume
from .codec import SPARSE
from .fleet import time_to_live
from .host import HostRecord
from .template import Hardware, TemplateRecord

# The actions on the containers in a child.
CONTAINER_ACTIONS = ("keep", "pause", "restart", "stop")
# The volumes of a child: copies of those of the host, or none.
VOLUME_ACTIONS = ("copy", "none")
# ``released``: it is deleted together with the last host that was forked from it.
BRANCH_PHASES = ("creating", "frozen", "released")


@dataclass(frozen=True)
class BranchSpec:
    """A declaration of hosts that are branched from a running host, in the tenant of that host.

    :param host: the name of the running host.
    :param names: the names of the children.
    :param count: the number of children, if they have no declared names. They are called
        ``HOST-branch-1`` and so on, or ``FLEET-1`` and so on.
    :param fleet: the fleet that the children belong to; single hosts if empty.
    :param containers: the action on the containers in a child before its network link comes up:
        ``keep``, ``pause``, ``restart`` or ``stop``.
    :param volumes: the volumes of a child: ``copy`` gives it a copy of each volume of the host,
        ``none`` unmounts them in the child.
    :param labels: the labels of the children.
    :param ttl: seconds after which the children expire; never if 0.
    :param lease: the number of the lease of the host. The children are leased to the same holder.
    :param allow_hostile: whether a host with the profile ``hostile`` can be branched.
    """

    host: str
    names: tuple[str, ...] = ()
    count: int = 1
    fleet: str = ""
    tenant: str = "default"
    containers: str = field(default="keep", metadata={"choices": CONTAINER_ACTIONS})
    volumes: str = field(default="copy", metadata={"choices": VOLUME_ACTIONS})
    labels: dict[str, str] = field(default_factory=dict)
    ttl: float = 0.0
    lease: str = ""
    allow_hostile: bool = False

    def __post_init__(self) -> None:
        naming.name("tenant", self.tenant)
        if self.fleet:
            naming.name("fleet", self.fleet, naming.FLEET_NAME_MAX)
        naming.whole("count", self.count, 1, 1000)
        for value in (self.host, *self.children):
            naming.name("host", value)
        if self.names and self.count not in (1, len(self.names)):
            raise InvalidInput(
                f"count is {self.count}, and {len(self.names)} hosts are named.",
                remedy="declare count or names",
            )
        if len({self.host, *self.children}) <= len(self.children):
            raise InvalidInput("names: a host is named twice.", remedy="name each host once")
        naming.check_choices(self)
        time_to_live(self.ttl)
        naming.labels(self.labels)
        if self.lease:
            naming.identifier(self.lease)

    @property
    def children(self) -> tuple[str, ...]:
        """Return the names of the children."""
        prefix = self.fleet or f"{self.host}-branch"
        return self.names or tuple(f"{prefix}-{number + 1}" for number in range(self.count))


@dataclass(frozen=True)
class MemoryModule:
    """Memory that was plugged into the parent while it ran.

    :param number: its position among the modules of the machine.
    :param size_mib: its size in MiB.
    :param address: its guest-physical address.
    :param slot: its slot in the machine.
    """

    number: int
    size_mib: int
    address: int
    slot: int

    def __post_init__(self) -> None:
        naming.whole("number", self.number, 0, 255)
        naming.whole("size_mib", self.size_mib, 1, 1 << 22)
        naming.whole("address", self.address, 0, 1 << 52)
        naming.whole("slot", self.slot, 0, 255)


@dataclass(frozen=True)
class BranchVolume:
    """The content of a volume of the parent at the moment of the branch.

    :param name: the name of the parent's volume.
    :param uuid: the uuid of the parent's volume, which can be deleted before the branch.
    :param path: its mount point in the parent, and in each child at first.
    :param size_gib: its size in GiB.
    :param port: the PCI bus of its disk in the machine; 0 if the hypervisor has none.
    :param layer: the name of the layer with the content; empty if the hypervisor has no layers.
    """

    name: str
    uuid: str
    path: str
    size_gib: int
    port: int = 0
    layer: str = ""

    def __post_init__(self) -> None:
        naming.name("volume", self.name)
        naming.identifier(self.uuid)
        volume.mount_point(self.path)
        volume.size(self.size_gib)
        naming.whole("port", self.port, 0, 255)
        if self.layer:
            naming.identifier(self.layer)

    @property
    def serial(self) -> str:
        """Return the serial number of the parent's disk."""
        return volume.serial_of(self.uuid)


@dataclass(frozen=True)
class BranchRecord:
    """The record of one branch on the hypervisor.

    :param name: the name of the parent, for messages.
    :param parent: the uuid of the parent. The parent can be deleted before the branch.
    :param template: the template that the parent was forked from, directly or through other
        branches: its disk is under the branch's.
    :param generation: the generation of that template.
    :param image: the image of that template.
    :param hardware: the hardware of that template.
    :param added_vcpus: the number of processors that were plugged in while the parent ran.
    :param max_memory_mib: the memory that the machine can get, in MiB.
    :param modules: the memory that was plugged in.
    :param volumes: the volumes that the parent had.
    :param phase: ``creating``, ``frozen`` (it can be forked) or ``released``.
    :param created: seconds since the epoch.
    :param checksums: SHA-256 of its files, once frozen.
    :param pause_ms: the time for which the parent was stopped, in milliseconds.
    """

    owner: str
    tenant: str
    name: str
    uuid: str
    parent: str
    template: str
    generation: str
    image: str
    hardware: Hardware
    phase: str
    created: float
    mac: str
    max_memory_mib: int = 0
    added_vcpus: int = 0
    modules: tuple[MemoryModule, ...] = ()
    volumes: tuple[BranchVolume, ...] = field(default=(), metadata=SPARSE)
    checksums: dict[str, str] | None = None
    pause_ms: float = 0.0
    version: int = 1

    kind = "branch"

    def __post_init__(self) -> None:
        for attribute in ("owner", "tenant", "name", "template"):
            naming.name(attribute, getattr(self, attribute))
        naming.identifier(self.uuid)
        naming.identifier(self.parent)
        naming.digest("generation", self.generation)
        naming.image(self.image)
        naming.choice("phase", self.phase, BRANCH_PHASES)
        for attribute in ("created", "pause_ms"):
            naming.moment(attribute, getattr(self, attribute))
        naming.mac(self.mac)
        naming.whole("max_memory_mib", self.max_memory_mib, 0, 1 << 30)
        naming.whole("version", self.version, 0, naming.VERSION_MAX)
        naming.whole("added_vcpus", self.added_vcpus, 0, 255)
        for part, digest in (self.checksums or {}).items():
            naming.line("checksums", part)
            naming.line(f"checksum of {part}", digest)

    @property
    def domain(self) -> str:
        """Return its name on the hypervisor."""
        return f"{self.owner}.{self.tenant}.branch.{self.name}.{self.uuid[:8]}"

    @property
    def title(self) -> str:
        """Return its name in messages."""
        return f"branch {self.uuid[:8]} of host {self.name}"


def branch_of(
    parent: HostRecord,
    template: TemplateRecord,
    created: float,
    phase: str,
    volumes: Sequence[volume.VolumeRecord] = (),
) -> BranchRecord:
    """Return the record of a new branch of a host.

    :param template: the template of the host.
    :param created: seconds since the epoch.
    :param volumes: the volumes that are attached to the host.
    """
    return BranchRecord(
        owner=parent.owner,
        tenant=parent.tenant,
        name=parent.name,
        uuid=str(uuid.uuid4()),
        parent=parent.uuid,
        template=parent.template,
        generation=parent.generation,
        image=template.image,
        hardware=template.hardware,
        phase=phase,
        created=created,
        mac=parent.mac,
        max_memory_mib=parent.max_size.memory_mib,
        volumes=tuple(
            BranchVolume(record.name, record.uuid, record.attachment.path, record.size_gib)
            for record in volumes
            if record.attachment
        ),
    )
