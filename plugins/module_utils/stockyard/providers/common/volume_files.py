# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of volumes, for hypervisors that store them in files: a directory for each, named by
uuid.

Storage has no place for stockyard's metadata, so the record is a small file next to the disk. It is
written whole, made durable, and changed by compare-and-set under one lock.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ...errors import (
    Conflict,
    InvalidInput,
    NotFound,
    OperationRefused,
)
from ...files import is_temporary
from ...hypervisor.records import decode_volume, encode
from ...model import untrusted
from ...model.observation import OrphanedFile, SweepResult, UnreadableObject, VolumeObservation
from ...model.volume import VolumeRecord
from . import folders, ownership
from .os_errors import translate_os_error
from .record_store import RecordStore

RECORD = "volume.json"
# The temporary file of earlier versions of stockyard.
OLD_TEMPORARY = f"{RECORD}.new"


class VolumeFiles:
    """The volumes under one directory.

    :param uri: the hypervisor of the volumes: other hypervisors may share the directory.
    :param lock: held around every change.
    """

    def __init__(
        self, folder: Path, uri: str, lock: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.folder = folder
        self.uri = uri
        self.lock = lock
        self._store = RecordStore[VolumeRecord](
            "volume",
            lambda: folders.names(folder, "the volumes"),
            lambda name: folder / name / RECORD,
            lambda record: record.uuid,
            self._decode,
            lambda record: json.dumps({"uri": uri, "record": encode(record)}),
        )

    def path(self, record: VolumeRecord) -> Path:
        """Return the directory of a volume's files."""
        return self.folder / record.uuid

    def observe(self, owner: str) -> VolumeObservation:
        """Return all volumes of one owner, and the records that cannot be read."""
        volumes, unreadable = self.read_all()
        own_volumes = sorted(
            (volume for volume in volumes if volume.owner == owner), key=lambda volume: volume.key
        )
        return VolumeObservation(tuple(own_volumes), tuple(unreadable))

    def read_all(self) -> tuple[list[VolumeRecord], list[UnreadableObject]]:
        """Return the volumes of all owners, and the records that cannot be read."""
        return self._store.read()

    def find(self, record: VolumeRecord) -> VolumeRecord:
        """Return the present record of a volume.

        :raises NotFound: if the volume does not exist.
        :raises OperationRefused: if the record cannot be read, so that its owner is unknown.
        """
        return self._store.find(record)

    def add(self, record: VolumeRecord) -> Path:
        """Put a volume on record; return the directory of its files. Call it under the lock.

        :raises Conflict: if its name is in use.
        :raises OperationRefused: if an unreadable volume may use its name.
        """
        volumes, unreadable = self.read_all()
        if any((volume.owner, volume.key) == (record.owner, record.key) for volume in volumes):
            raise Conflict("a volume of this name exists.", name=record.title, remedy="run again")
        if unreadable:
            raise OperationRefused(
                "an unreadable volume may have the same name.",
                name=record.title,
                cause=f"{unreadable[0].name}: {unreadable[0].reason}",
                remedy="correct its record, or move it away",
            )
        self._store.write(record)
        return self.path(record)

    def claim(self, record: VolumeRecord, **changes: Any) -> VolumeRecord:
        """Write a changed record if the stored version is still the record's.

        :raises Conflict: if the stored version differs.
        """
        with self.lock():
            return self._store.claim(record, **changes)

    def remove(self, record: VolumeRecord) -> bool:
        """Delete a volume's files. Call it under the lock.

        The record is deleted last, so that it still exists after an interrupted deletion.

        :return: whether the volume existed.
        """
        try:
            stored_record = self.find(record)
        except NotFound:
            return False
        if stored_record.attachment:
            raise OperationRefused(
                f"the volume is attached to host {stored_record.attachment.host}.",
                name=record.title,
                remedy="detach the volume first",
            )
        with translate_os_error("the volume cannot be deleted.", record.title):
            for path in self.path(record).iterdir():
                if path.name != RECORD:
                    _remove(path)
            shutil.rmtree(self.path(record))
        return True

    def sweep(self, older_than: float, *, check: bool) -> SweepResult:
        """Delete directories of controllers that died before they put a volume on record.

        Call it under the lock. Directories with a record, readable or not, and directories with any
        other file are retained.
        """
        orphans: list[OrphanedFile] = []
        skipped: list[OrphanedFile] = []
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            if (path / RECORD).exists() and ownership.is_name(path.name):
                continue
            is_volume_folder = (
                path.is_dir() and not path.is_symlink() and ownership.is_name(path.name)
            )
            is_empty = is_volume_folder and all(
                is_temporary(entry) or entry.name == OLD_TEMPORARY for entry in path.iterdir()
            )
            removable, retained = ownership.sorted_out(
                path,
                ownership.too_young(path, older_than)
                if is_empty
                else "it has no record of its owner, and contains data",
            )
            orphans, skipped = orphans + removable, skipped + retained
        for orphan in () if check else orphans:
            shutil.rmtree(orphan.path)
        return SweepResult(tuple(orphans), tuple(skipped))

    def _decode(self, content: bytes) -> VolumeRecord | None:
        """Return the record in a file; ``None`` if it is another hypervisor's.

        :raises InvalidInput: if the record cannot be read.
        """
        try:
            note = untrusted.mapping(untrusted.parse(content), "the note")
            uri, text = (str(untrusted.item(note, key, "the note")) for key in ("uri", "record"))
        except untrusted.MalformedData as error:
            raise InvalidInput(f"its record cannot be read ({error})") from error
        return decode_volume(text) if uri == self.uri else None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
