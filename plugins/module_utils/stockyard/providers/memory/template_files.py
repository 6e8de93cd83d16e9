# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of simulated templates, to and from artifacts: a disk is one tar file, and an image is
the versions of its packages.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ...clock import Deadline
from ...errors import ImageError
from ...hypervisor.records import encode
from ...hypervisor.template_files import NewTemplate, TemplateContent
from ...model.platform import Drift
from ...model.template import TemplateRecord
from ..common.resumable import require
from .disks import Disks
from .machines import check_free, check_frozen
from .mirror import Mirror
from .state import Machine, StateFile

DISK, VERSIONS = "disk", "versions"


class MemoryTemplateFiles:
    """The files of the templates of one memory hypervisor.

    :param drift: returns the differences of the platform from a template's.
    """

    kind = "memory"

    def __init__(
        self,
        state: StateFile,
        disks: Disks,
        mirror: Mirror,
        drift: Callable[[TemplateRecord], tuple[Drift, ...]],
    ) -> None:
        self._state = state
        self._disks = disks
        self._mirror = mirror
        self._drift = drift

    def check_export(self, record: TemplateRecord) -> None:
        return

    @contextmanager
    def opened(self, record: TemplateRecord) -> Iterator[TemplateContent]:
        check_frozen(self._state.read(), record)
        with tempfile.TemporaryDirectory(prefix="stockyard-") as folder:
            disk = Path(folder) / DISK
            with tarfile.open(disk, "w") as archive:
                archive.add(self._disks.path(record), ".", filter=_anonymous)
            versions = Path(folder) / VERSIONS
            versions.write_text(json.dumps(self._mirror.versions(record.image), sort_keys=True))
            yield TemplateContent({}, {DISK: disk, VERSIONS: versions})

    def check(
        self,
        record: TemplateRecord,
        machine: dict[str, Any],
        sizes: Mapping[str, int],
        mode: str = "instant",
    ) -> None:
        if set(sizes) != {DISK, VERSIONS}:
            raise ImageError("the artifact is damaged.", name=record.title)
        require(record, self._drift(record), mode)

    @contextmanager
    def receive(
        self, record: TemplateRecord, machine: dict[str, Any], deadline: Deadline
    ) -> Iterator[NewTemplate]:
        self._state.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=self._state.folder, prefix="work-") as folder:
            paths = {name: Path(folder) / name for name in (DISK, VERSIONS)}
            yield _Incoming(self._state, self._disks, self._mirror, record, paths)


@dataclass
class _Incoming:
    """A template that is being received."""

    state: StateFile
    disks: Disks
    mirror: Mirror
    record: TemplateRecord
    paths: Mapping[str, Path | None]

    def finish(self, deadline: Deadline) -> TemplateRecord:
        with self.state.change() as machines:
            check_free(machines, self.record)
            disk = self.disks.make(self.record)
            with tarfile.open(self.paths[DISK] or "") as archive:
                for member in archive:
                    _extract(archive, member, disk)
            self.mirror.receive(self.record.image, (self.paths[VERSIONS] or disk).read_bytes())
            record = replace(self.record, checksums={"record": "received"})
            machines[record.domain] = Machine(encode(record))
        return record


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, disk: Path) -> None:
    """Write a file or a directory of a simulated disk; everything else is no part of one."""
    path = PurePosixPath(member.name)
    source = archive.extractfile(member) if member.isfile() else None
    if path.is_absolute() or ".." in path.parts or not (source or member.isdir()):
        raise ImageError("the artifact is damaged.", cause="its disk has an impossible member")
    if source:
        (disk / path).write_bytes(source.read())
    else:
        (disk / path).mkdir(exist_ok=True)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
