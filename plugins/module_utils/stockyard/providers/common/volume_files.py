# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of volumes, for hypervisors that keep them in files: a directory each, named by its uuid,
the record in it.

Storage has no place for metadata of ours, so the record is a small file beside the disk. It is
written whole, made durable, and changed by compare and set under one lock.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import (
    Conflict,
    HypervisorError,
    InvalidInput,
    NotFound,
    OperationRefused,
    OutOfSpace,
)
from ...model import untrusted
from ...model.observation import OrphanedFile, SweepResult, UnreadableObject, VolumeObservation
from ...model.volume import VolumeRecord, decode, encode
from . import folders, ownership

RECORD = "volume.json"
NO_SPACE = (28, 122)  # ENOSPC, EDQUOT


class VolumeFiles:
    """The volumes under one directory.

    :param uri: the hypervisor that they are of: others may share the directory.
    :param lock: held around every change.
    """

    def __init__(
        self, folder: Path, uri: str, lock: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.folder = folder
        self.uri = uri
        self.lock = lock

    def path(self, record: VolumeRecord) -> Path:
        """Where the files of a volume are."""
        return self.folder / record.uuid

    def observe(self, owner: str) -> VolumeObservation:
        """All volumes of one owner, and what cannot be read."""
        found, unreadable = self.everything()
        mine = sorted((r for r in found if r.owner == owner), key=lambda r: r.key)
        return VolumeObservation(tuple(mine), tuple(unreadable))

    def everything(self) -> tuple[list[VolumeRecord], list[UnreadableObject]]:
        """The volumes of all owners, and what cannot be read."""
        found: list[VolumeRecord] = []
        unreadable: list[UnreadableObject] = []
        for name in folders.names(self.folder, "the volumes"):
            try:
                record = self._read(name)
            except InvalidInput as error:
                unreadable.append(UnreadableObject(f"volume {name}", str(error)))
            else:
                found += [record] if record else []
        return found, unreadable

    def find(self, record: VolumeRecord) -> VolumeRecord:
        """The record of now.

        :raises NotFound: when there is none.
        :raises Refused: when it cannot be read whose it is.
        """
        try:
            there = self._read(record.uuid)
        except InvalidInput as error:
            raise OperationRefused(
                "its record cannot be read: it is left alone.", name=record.title, cause=str(error)
            ) from error
        if there is None or there.owner != record.owner:
            raise NotFound("it is not on record.", name=record.title)
        return there

    def add(self, record: VolumeRecord) -> Path:
        """Put a volume on record; returns where its files go. Call it under the lock.

        :raises Conflict: when its name is taken, or may be.
        """
        found, unreadable = self.everything()
        if any((r.owner, r.key) == (record.owner, record.key) for r in found):
            raise Conflict("a volume of this name exists.", name=record.title, remedy="run again")
        if unreadable:
            raise OperationRefused(
                "a volume that cannot be read may have its name.",
                name=record.title,
                cause=f"{unreadable[0].name}: {unreadable[0].reason}",
                remedy="mend its record, or move it away by hand",
            )
        self._write(record)
        return self.path(record)

    def claim(self, record: VolumeRecord, **changes: Any) -> VolumeRecord:
        """Compare and set."""
        with self.lock():
            current = self.find(record)
            if current.version != record.version:
                raise Conflict(
                    "it was changed meanwhile.",
                    name=record.title,
                    cause=f"version {current.version} is on record, {record.version} was expected",
                    remedy="run again",
                )
            changed = replace(record, version=record.version + 1, **changes)
            self._write(changed)
        return changed

    def remove(self, record: VolumeRecord) -> bool:
        """Take a volume's files away, its record last: what is half destroyed still has it. Call it
        under the lock.

        :return: whether there was anything.
        """
        try:
            current = self.find(record)
        except NotFound:
            return False
        if current.holder:
            raise OperationRefused(
                f"host {current.holder.host} has it.", name=record.title, remedy="detach it first"
            )
        with translated("it cannot be deleted.", record.title):
            for path in self.path(record).iterdir():
                if path.name != RECORD:
                    _remove(path)
            shutil.rmtree(self.path(record))
        return True

    def sweep(self, older_than: float, *, check: bool) -> SweepResult:
        """Remove directories that a controller made and died before it put a volume on record. Call
        it under the lock.

        Whatever has a record, readable or not, and whatever holds anything else, stays.
        """
        gone: list[OrphanedFile] = []
        left: list[OrphanedFile] = []
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            if (path / RECORD).exists() and ownership.is_name(path.name):
                continue
            ours = path.is_dir() and not path.is_symlink() and ownership.is_name(path.name)
            bare = ours and {p.name for p in path.iterdir()} <= {f"{RECORD}.new"}
            goes, stays = ownership.sorted_out(
                path,
                ownership.too_young(path, older_than)
                if bare
                else "nothing says whose it is, and it holds data",
            )
            gone, left = gone + goes, left + stays
        for found in () if check else gone:
            shutil.rmtree(found.path)
        return SweepResult(tuple(gone), tuple(left))

    def _read(self, name: str) -> VolumeRecord | None:
        """The record in a directory; nothing when it has none, or is another hypervisor's.

        :raises InvalidInput: when it cannot be read.
        """
        try:
            note = untrusted.mapping(
                untrusted.parse((self.folder / name / RECORD).read_bytes()), "the note"
            )
            where, text = (str(untrusted.item(note, key, "the note")) for key in ("uri", "record"))
            record = decode(text)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, untrusted.MalformedData) as error:
            raise InvalidInput(f"its record cannot be read ({error})") from error
        if where != self.uri:
            return None
        if record.uuid != name:
            raise InvalidInput("its record is a copy: it names another volume")
        return record

    def _write(self, record: VolumeRecord) -> None:
        target = self.path(record) / RECORD
        beside = target.with_name(f"{RECORD}.new")
        with translated("its record cannot be written.", record.title):
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with beside.open("w", encoding="utf-8") as handle:
                json.dump({"uri": self.uri, "record": encode(record)}, handle)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(beside, target)
            directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


@contextmanager
def translated(what: str, name: str) -> Iterator[None]:
    """Turn what the file system says inside the block into an error of ours."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise OutOfSpace(
                what, name=name, cause=str(error), remedy="free space in the storage"
            ) from error
        raise HypervisorError(what, name=name, cause=str(error)) from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
