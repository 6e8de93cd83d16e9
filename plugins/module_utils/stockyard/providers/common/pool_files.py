# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pool store of providers that store files: a small JSON record for each pool.

Hosts are reserved and pools are changed under the same lock, so neither operation can invalidate
the result of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...hypervisor.facts import PoolFacts
from ...hypervisor.records import decode_pool, encode
from ...model.host import HostRecord
from ...model.observation import Record, UnreadableObject
from ...model.pool import PoolRecord
from ...model.size import grows
from ...planning import quota
from . import folders
from .record_store import RecordStore
from .stored_records import put_version

SUFFIX = ".json"
# Locks all reservations, and yields every host on record, of any owner.
Guard = Callable[[], AbstractContextManager[Iterable[HostRecord]]]


class FilePoolStore:
    """The pools of one hypervisor.

    :param folder: created with the first pool, for this user alone.
    :param guard: the lock, and the hosts.
    """

    def __init__(self, folder: Path, guard: Guard, facts: Callable[[], PoolFacts]) -> None:
        self.folder = folder
        self._guard = guard
        self._facts = facts
        self._store = RecordStore[PoolRecord](
            "pool",
            self._names,
            lambda name: folder / f"{name}{SUFFIX}",
            lambda record: record.domain,
            decode_pool,
            encode,
        )

    def read(self) -> tuple[tuple[PoolRecord, ...], tuple[UnreadableObject, ...]]:
        """Return all pools, of any owner, and the records that cannot be read.

        :raises HypervisorError: if the pools cannot be listed.
        """
        pools, unreadable = self._store.read()
        return tuple(pools), tuple(unreadable)

    def check_quota(self, record: HostRecord, hosts: Iterable[HostRecord]) -> None:
        """Refuse a host if its pool has insufficient quota.

        Call it under the lock of all reservations.

        :raises PoolQuotaExceeded: with the numbers.
        """
        if record.spec.pool:
            quota.check_quota(record, self.read()[0], hosts)

    def check_growth(
        self, record: Record, changes: dict[str, Any], list_records: Callable[[], Iterable[object]]
    ) -> None:
        """Refuse to grow a host if its pool has insufficient quota.

        Call it under the lock of all reservations.

        :param list_records: returns all records, of any owner.
        """
        if (
            isinstance(record, HostRecord)
            and record.spec.pool
            and grows(record.size, changes.get("size", record.size))
        ):
            hosts = [host for host in list_records() if isinstance(host, HostRecord)]
            self.check_quota(replace(record, size=changes["size"]), hosts)

    def put(self, record: PoolRecord, *, force: bool = False) -> PoolRecord:
        """Put a pool on record, or change it, if the stored version is still the record's.

        :param force: allow limits below the present use of the pool.
        :raises Conflict: if the stored version differs from the record's.
        :raises OperationRefused: if the pool is invalid in this form.
        """
        with self._guard() as hosts:
            new_record = put_version(record, self._store.get(record.domain))
            pools = [pool for pool in self.read()[0] if pool.owner == record.owner]
            quota.check_change(
                new_record,
                pools,
                [host for host in hosts if host.owner == record.owner],
                force=force,
            )
            self._store.write(new_record)
        return new_record

    def delete(self, record: PoolRecord) -> None:
        """Delete a pool. A pool that does not exist is a success.

        :raises OperationRefused: if the pool is not empty.
        """
        with self._guard() as hosts:
            pools = [pool for pool in self.read()[0] if pool.owner == record.owner]
            if any(pool.uuid == record.uuid for pool in pools):
                quota.check_removal(
                    record, pools, [host for host in hosts if host.owner == record.owner]
                )
                self._store.path(record.domain).unlink(missing_ok=True)

    def facts(self, record: PoolRecord) -> PoolFacts:
        """Return how its limits are enforced."""
        return self._facts()

    def _names(self) -> list[str]:
        names = folders.names(self.folder, "the pools")
        return [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)]
