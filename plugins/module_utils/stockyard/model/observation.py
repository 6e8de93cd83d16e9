# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observed objects: one reading of a hypervisor, and the result of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from .host import Host, HostRecord
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
    """A template as observed. ``problem`` is empty, or the reason why it cannot be forked."""

    record: TemplateRecord
    problem: str = ""

    @property
    def usable(self) -> bool:
        """Return whether it can be forked."""
        return self.record.phase == "frozen" and not self.problem


@dataclass(frozen=True)
class Observation:
    """One reading of a hypervisor: everything of one owner, and the names and addresses of all
    owners.

    :param addresses: every address that a host of any owner has.
    :param names: the name of every machine, of this owner or not.
    :param pools: every pool of the owner.
    """

    templates: tuple[Template, ...]
    hosts: tuple[Host, ...]
    unreadable: tuple[UnreadableObject, ...]
    addresses: frozenset[str]
    names: frozenset[str] = frozenset()
    pools: tuple[PoolRecord, ...] = ()


@dataclass(frozen=True)
class OrphanedFile:
    """A file or directory that no object on the hypervisor refers to.

    :param reason: the reason why it is deleted, or skipped.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class SweepResult:
    """The files that a sweep deleted, or would delete, and those that it skipped."""

    removed: tuple[OrphanedFile, ...]
    skipped: tuple[OrphanedFile, ...]


@dataclass(frozen=True)
class VolumeObservation:
    """All volumes of one owner at one moment, and the unreadable ones of any owner."""

    volumes: tuple[VolumeRecord, ...] = ()
    unreadable: tuple[UnreadableObject, ...] = ()

    def find(self, tenant: str, name: str) -> VolumeRecord | None:
        """Return one volume, or ``None``."""
        return next((volume for volume in self.volumes if volume.key == (tenant, name)), None)
