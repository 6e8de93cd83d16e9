# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of guests: one directory for each."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from ...errors import InvalidInput
from ...files import is_temporary
from ...model.observation import OrphanedFile, Record, SweepResult
from ..common import ownership
from ..common.os_errors import translate_os_error

NOTE = ".json"


class Disks:
    """Disks in one directory, named by uuid, each with a marker file that contains its owner."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder = folder
        self.uri = uri

    def path(self, record: Record) -> Path:
        """Return the path of a machine's disk."""
        return self.folder / record.uuid

    def make(self, record: Record) -> Path:
        """Create a disk."""
        with _translated(record):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._note(record)
            self.path(record).mkdir(exist_ok=True, mode=0o700)
        return self.path(record)

    def copy(self, source: Record, target: Record) -> None:
        """Create a disk with the content of another disk."""
        self.copy_folder(self.path(source), target)

    def copy_folder(self, source: Path, target: Record) -> None:
        """Create a disk with the content of a directory."""
        with _translated(target):
            self._note(target)
            shutil.copytree(source, self.path(target), symlinks=True)

    def remove(self, record: Record) -> None:
        """Delete a disk if it exists."""
        with _translated(record), suppress(FileNotFoundError):
            shutil.rmtree(self.path(record))
        with _translated(record):
            self._note_of(record.uuid).unlink(missing_ok=True)

    def sweep(
        self, owner: str, older_than: float, texts: Iterable[str], unreadable: bool, *, check: bool
    ) -> SweepResult:
        """Delete the disks of an owner that no machine refers to, and the unfinished notes of
        killed controllers. Call this method inside a change of the state, so that no other process
        writes.

        :param texts: records and backing disks of all machines. A disk is in use if one of them
            contains its uuid.
        :param unreadable: whether a machine's record is unreadable: it may refer to any disk.
        """
        removed: list[OrphanedFile] = []
        skipped: list[OrphanedFile] = []
        references = "\n".join(texts)
        names = {
            path.name.removesuffix(NOTE) for path in self.folder.glob("*") if not is_temporary(path)
        }
        for name in sorted(names):
            if name not in references:
                removable, retained = ownership.sorted_out(
                    self.folder / name, self._why_not(name, owner, older_than, unreadable)
                )
                removed, skipped = removed + removable, skipped + retained
        for name in () if check else (Path(orphan.path).name for orphan in removed):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            self._note_of(name).unlink(missing_ok=True)
        for path in () if check else [*self.folder.glob(".*")]:
            if is_temporary(path):
                path.unlink(missing_ok=True)
        return SweepResult(tuple(removed), tuple(skipped))

    def _why_not(self, name: str, owner: str, older_than: float, unreadable: bool) -> str:
        if not ownership.is_name(name):
            return "its name is not that of a disk"
        if unreadable:
            return "an unreadable machine may refer to it"
        note = self._note_of(name)
        try:
            ownership.read(note, self.uri, owner, name)
        except InvalidInput as error:
            return str(error)
        disk = self.folder / name
        return ownership.too_young(disk if disk.exists() else note, older_than)

    def _note(self, record: Record) -> None:
        # A simulation need not survive a crash of the machine.
        ownership.write(self._note_of(record.uuid), self.uri, record, durable=False)

    def _note_of(self, name: str) -> Path:
        return self.folder / f"{name}{NOTE}"


def _translated(record: Record) -> AbstractContextManager[None]:
    return translate_os_error("the disk of the host cannot be created or changed.", record.title)
