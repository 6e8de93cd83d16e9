# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records in files, for hypervisors that have no place for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from ...files import write_atomic
from ...model.observation import UnreadableObject
from .os_errors import translate_os_error
from .stored_records import S, compare_and_set, read_record, require_stored, separate


@dataclass(frozen=True)
class RecordStore(Generic[S]):
    """The records of one kind, each in a file of its own.

    Reading needs no lock, because each file is whole at any time.

    :param kind: the kind of the records, for reports.
    :param names: returns the names of all records, in order.
    :param path: returns the path of the record with a name.
    :param name_of: returns the name of a record.
    :param decode: returns the record in a file, or ``None`` if the file is of another hypervisor.
    :param encode: returns the content of a record's file.
    """

    kind: str
    names: Callable[[], list[str]]
    path: Callable[[str], Path]
    name_of: Callable[[S], str]
    decode: Callable[[bytes], S | None]
    encode: Callable[[S], str]

    def read(self) -> tuple[list[S], list[UnreadableObject]]:
        """Return all records, and those that cannot be read.

        :raises HypervisorError: if the records cannot be listed.
        """
        return separate(self.get(name) for name in self.names())

    def get(self, name: str) -> S | UnreadableObject | None:
        """Return the record with a name; ``None`` if there is none on this hypervisor."""
        title, path = f"{self.kind} {name}", self.path(name)
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            return UnreadableObject(title, f"its record cannot be read ({error})")
        record = read_record(
            title,
            content,
            self.decode,
            lambda record: record is None or self.name_of(record) == name,
        )
        if isinstance(record, UnreadableObject):
            return UnreadableObject(title, f"{path}: {record.reason}")
        return record

    def find(self, record: S) -> S:
        """Return the stored record of an object.

        :raises NotFound: if the object is not stored.
        :raises OperationRefused: if the stored record cannot be read, so that its owner is unknown.
        """
        return require_stored(record, self.get(self.name_of(record)))

    def claim(self, record: S, **changes: Any) -> S:
        """Write a changed record if the stored version is still the record's. Call it under a lock.

        :raises Conflict: if the stored version differs.
        """
        new_record = compare_and_set(record, self.get(self.name_of(record)), **changes)
        self.write(new_record)
        return new_record

    def write(self, record: S) -> None:
        """Write a record, and create its directory if needed.

        :raises HypervisorError: if that fails; the old record is then unchanged.
        """
        path = self.path(self.name_of(record))
        with translate_os_error("its record cannot be written.", record.title):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(path, self.encode(record))
