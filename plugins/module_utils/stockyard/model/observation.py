# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observed objects: one reading of a hypervisor, and the result of reaping files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from .host import Host, HostRecord
from .platform import Drift, mismatch
from .pool import PoolRecord
from .template import TemplateRecord
from .volume import VolumeRecord

Record: TypeAlias = "HostRecord | TemplateRecord"


R = TypeVar("R", HostRecord, TemplateRecord)


@dataclass(frozen=True)
class UnreadableObject:
    """An object with the owner's marker that cannot be read. It is reported, never changed."""

    name: str
    reason: str


@dataclass(frozen=True)
class Template:
    """A template as observed.

    :param problem: empty, or the reason why it cannot be forked.
    :param drift: the differences of the hypervisor from the platform that it was frozen on.
    """

    record: TemplateRecord
    problem: str = ""
    drift: tuple[Drift, ...] = ()

    @property
    def usable(self) -> bool:
        """Return whether it can be forked."""
        return self.record.phase == "frozen" and not self.problem

    @property
    def mismatch(self) -> str:
        """Return the reason why hosts of it boot instead of resuming its memory; empty if there is
        none.
        """
        return mismatch(self.drift)


@dataclass(frozen=True)
class VolumeObservation:
    """All volumes of one owner at one moment, and the unreadable ones of any owner."""

    volumes: tuple[VolumeRecord, ...] = ()
    unreadable: tuple[UnreadableObject, ...] = ()

    def find(self, tenant: str, name: str) -> VolumeRecord | None:
        """Return one volume, or ``None``."""
        return next((volume for volume in self.volumes if volume.key == (tenant, name)), None)

    def held_by(self, uuid: str) -> list[VolumeRecord]:
        """Return the volumes that a host holds, by the uuid of the host."""
        return [
            volume
            for volume in self.volumes
            if volume.attachment and volume.attachment.uuid == uuid
        ]


@dataclass(frozen=True)
class Observation:
    """One reading of a hypervisor: everything of one owner, and the names and addresses of all
    owners.

    Volumes are read before hosts: if the host of an attachment is not among them, it is deleted.

    :param addresses: every address that a host of any owner has.
    :param names: the name of every machine, of this owner or not.
    :param pools: every pool of the owner.
    :param volumes: every volume of the owner; none if the hypervisor has no volumes.
    """

    templates: tuple[Template, ...]
    hosts: tuple[Host, ...]
    unreadable: tuple[UnreadableObject, ...]
    addresses: frozenset[str]
    names: frozenset[str] = frozenset()
    pools: tuple[PoolRecord, ...] = ()
    volumes: VolumeObservation = VolumeObservation()

    def host(self, tenant: str, name: str) -> Host | None:
        """Return one host, or ``None``."""
        return next((host for host in self.of_tenant(tenant) if host.record.name == name), None)

    def of_tenant(self, tenant: str) -> list[Host]:
        """Return the hosts of a tenant."""
        return [host for host in self.hosts if host.record.tenant == tenant]

    def members(self, tenant: str, fleet: str) -> list[Host]:
        """Return the hosts of a fleet, incomplete ones included."""
        return [host for host in self.of_tenant(tenant) if host.record.fleet == fleet]

    @property
    def host_uuids(self) -> frozenset[str] | None:
        """Return the uuids of all hosts; ``None`` if a record cannot be read, because it may be any
        host.
        """
        return None if self.unreadable else frozenset(host.record.uuid for host in self.hosts)

    def attached_host(self, volume: VolumeRecord) -> Host | None:
        """Return the host that a volume is attached to, or ``None``."""
        uuid = volume.attachment.uuid if volume.attachment else ""
        return next((host for host in self.hosts if host.record.uuid == uuid), None)

    def generations(self, tenant: str, name: str) -> list[Template]:
        """Return all generations of a template; the current one, if it is usable, comes last."""
        return generations(tenant, name, self.templates)

    def template(self, tenant: str, name: str) -> Template | None:
        """Return the current generation of a template, from which forks are created."""
        return newest(self.generations(tenant, name))

    def pool(self, tenant: str, name: str) -> PoolRecord | None:
        """Return one pool, or ``None``."""
        return next(
            (pool for pool in self.pools if (pool.tenant, pool.name) == (tenant, name)), None
        )


def generations(tenant: str, name: str, templates: Iterable[Template]) -> list[Template]:
    """Return all generations of a template; the current one, if it is usable, comes last."""
    matches = [
        template
        for template in templates
        if (template.record.tenant, template.record.name) == (tenant, name)
    ]
    return sorted(matches, key=lambda template: (template.record.since, template.record.uuid))


def newest(templates: Iterable[Template]) -> Template | None:
    """Return the current generation, from which forks are created."""
    usable_templates = [template for template in templates if template.usable]
    return max(
        usable_templates,
        key=lambda template: (template.record.since, template.record.uuid),
        default=None,
    )


@dataclass(frozen=True)
class OrphanedFile:
    """A file or directory that no object on the hypervisor refers to.

    :param reason: the reason why it is deleted, or skipped.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class SweepResult:
    """The files that were reaped, or would be reaped, and those that it skipped."""

    removed: tuple[OrphanedFile, ...]
    skipped: tuple[OrphanedFile, ...]
