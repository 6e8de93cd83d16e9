# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The book of pools, for providers that keep files: a small JSON record for each.

Whoever reserves a host, and whoever changes a pool, does it under one lock: what one of them was
promised the other cannot take away.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import Conflict, HypervisorError, InvalidInput, OutOfSpace
from ...model import codec, untrusted
from ...model.host import HostRecord
from ...model.observation import Record, UnreadableObject
from ...model.pool import PoolRecord
from ...model.size import grows
from ...model.untrusted import MalformedData
from ...planning import quota
from . import folders

SUFFIX = ".json"
# Holds the lock of all reservations, and gives every host that is on record, of any owner.
Guard = Callable[[], AbstractContextManager[Iterable[HostRecord]]]


class FilePoolStore:
    """The pools of one hypervisor.

    :param folder: made by the first pool, for this user alone.
    :param guard: the lock, and the hosts.
    """

    def __init__(self, folder: Path, guard: Guard, facts: Callable[[], dict[str, Any]]) -> None:
        self.folder = folder
        self._guard = guard
        self._facts = facts

    def read(self) -> tuple[tuple[PoolRecord, ...], tuple[UnreadableObject, ...]]:
        """All pools, of any owner, and what cannot be read. Takes no lock: each file is whole at
        any time.

        :raises HypervisorError: when it cannot be told which there are.
        """
        found: list[PoolRecord] = []
        unreadable: list[UnreadableObject] = []
        for name in folders.names(self.folder, "the pools"):
            if not name.endswith(SUFFIX):
                continue
            path = self.folder / name
            try:
                found.append(_read(path))
            except FileNotFoundError:
                continue
            except (OSError, MalformedData, InvalidInput) as error:
                unreadable.append(UnreadableObject(path.name, f"it cannot be read: {error}"))
        return tuple(found), tuple(unreadable)

    def admit(self, record: HostRecord, hosts: Iterable[HostRecord]) -> None:
        """Refuse a host that there is no room for. Call it under the lock of all reservations.

        :raises PoolQuotaExceeded: with the numbers.
        """
        if record.spec.pool:
            quota.admit(record, self.read()[0], hosts)

    def readmit(
        self, record: Record, changes: dict[str, Any], everybody: Callable[[], Iterable[object]]
    ) -> None:
        """Refuse that a host in a pool grows, where there is no room for that. Call it under the
        same lock.
        """
        if (
            isinstance(record, HostRecord)
            and record.spec.pool
            and grows(record.size, changes.get("size", record.size))
        ):
            hosts = [r for r in everybody() if isinstance(r, HostRecord)]
            self.admit(replace(record, size=changes["size"]), hosts)

    def put(self, record: PoolRecord, *, force: bool = False) -> PoolRecord:
        """Compare and set: put a pool on record, or change it, if nobody changed it meanwhile.

        :param force: let it be smaller than what is in it.
        :raises Conflict: when the version on record is not the record's.
        :raises Refused: when it cannot be like this.
        """
        with self._guard() as hosts:
            self._compare(record)
            pools = [p for p in self.read()[0] if p.owner == record.owner]
            kept = replace(record, version=record.version + 1)
            quota.check_change(
                kept, pools, [h for h in hosts if h.owner == record.owner], force=force
            )
            self._write(kept)
        return kept

    def delete(self, record: PoolRecord) -> None:
        """Take a pool off the record. None there is a success.

        :raises Refused: when something is in it.
        """
        with self._guard() as hosts:
            pools = [p for p in self.read()[0] if p.owner == record.owner]
            if any(p.uuid == record.uuid for p in pools):
                quota.check_removal(record, pools, [h for h in hosts if h.owner == record.owner])
                self._path(record).unlink(missing_ok=True)

    def facts(self, record: PoolRecord) -> dict[str, Any]:
        """How its limits are kept here."""
        return self._facts()

    def _compare(self, record: PoolRecord) -> None:
        try:
            there = _read(self._path(record))
            version, other = there.version, there.uuid != record.uuid
        except FileNotFoundError:
            version, other = 0, False
        except (OSError, MalformedData, InvalidInput) as error:
            raise HypervisorError(
                "its record cannot be read: it is left alone.",
                name=record.title,
                cause=str(error),
                remedy=f"mend or remove {self._path(record)}",
            ) from error
        if other or version != record.version:
            raise Conflict(
                "it was changed meanwhile.",
                name=record.title,
                cause=f"version {version} is on record, {record.version} was expected",
                remedy="run again",
            )

    def _write(self, record: PoolRecord) -> None:
        beside = self._path(record).with_suffix(".new")
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside.write_text(json.dumps(codec.to_dict(record), sort_keys=True), encoding="utf-8")
            os.replace(beside, self._path(record))
        except OSError as error:
            kind = OutOfSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else HypervisorError
            raise kind(
                "its record cannot be written.",
                name=record.title,
                cause=str(error),
                remedy="free space in the storage",
            ) from error

    def _path(self, record: PoolRecord) -> Path:
        return self.folder / f"{record.domain}{SUFFIX}"


def _read(path: Path) -> PoolRecord:
    record = codec.from_dict(PoolRecord, untrusted.parse(path.read_bytes()), path.name)
    if path.name != f"{record.domain}{SUFFIX}":
        raise InvalidInput("it is a copy: it names another pool.")
    return record
