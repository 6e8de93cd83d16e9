# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects as they were observed: one reading of a hypervisor, and the result of a sweep."""

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
    """Something that carries our mark and cannot be read. Reported, never touched."""

    name: str
    reason: str


@dataclass(frozen=True)
class Template:
    """A template as observed. ``problem`` is empty, or says why no fork can be made of it."""

    record: TemplateRecord
    problem: str = ""

    @property
    def usable(self) -> bool:
        """Whether forks can be made of it."""
        return self.record.phase == "frozen" and not self.problem


@dataclass(frozen=True)
class Observation:
    """One reading of a hypervisor: everything of one owner, and what is taken by anyone.

    :param addresses: every address that a host of any owner has.
    :param names: the name of every machine, ours or not.
    :param pools: every pool of the owner's.
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

    :param reason: why it goes, or why it is left alone.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class SweepResult:
    """What a sweep took away, or would, and what it left alone."""

    removed: tuple[OrphanedFile, ...]
    skipped: tuple[OrphanedFile, ...]


@dataclass(frozen=True)
class VolumeObservation:
    """All volumes of one owner at one moment, and what cannot be read, of any owner."""

    volumes: tuple[VolumeRecord, ...] = ()
    unreadable: tuple[UnreadableObject, ...] = ()

    def find(self, tenant: str, name: str) -> VolumeRecord | None:
        """One volume."""
        return next((v for v in self.volumes if v.key == (tenant, name)), None)
