# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools on vSphere: quotas in the register, and a resource pool for each pool.

The register also contains the reservations of hosts.

The resource pool is created before its record is written and deleted after its record: a record
never names a resource pool that does not exist. Hosts of a pool are cloned into its resource pool,
so that vCenter enforces the limits, reservations and shares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from ...clock import Deadline
from ...errors import Conflict, HypervisorError, InvalidInput
from ...hypervisor.facts import PoolFacts
from ...hypervisor.records import decode_pool, encode
from ...model.host import HostRecord
from ...model.observation import UnreadableObject
from ...model.pool import PoolRecord, pool_domain
from ...model.template import TemplateRecord
from ...planning import quota
from ..common.stored_records import put_version, read_record, separate
from . import reservations, specs
from .faults import is_a
from .lookup import Lookup
from .privileges import Guard
from .register import Register, Values
from .reservations import POOL as KEY
from .reservations import MachineIndex, reserved
from .session import Session
from .task import Tasks

FORMAT = "1 "
REMOVAL = 300.0


class Pools:
    """The pools of one yard's folder.

    :param read_index: returns the index of all machines for values of the register; without values,
        it reads all machines again.
    """

    def __init__(
        self,
        session: Session,
        tasks: Tasks,
        lookup: Lookup,
        register: Register,
        read_index: Callable[..., MachineIndex],
        guard: Guard,
    ) -> None:
        self.session = session
        self.lookup = lookup
        self.tasks = tasks
        self.register = register
        self._known = read_index
        self._guard = guard

    def put(self, record: PoolRecord, *, force: bool = False) -> PoolRecord:
        """Write a pool's record by compare-and-set, and then change its resource pool."""
        self._guard.demand("pools")
        new_record = replace(record, version=record.version + 1)
        self._known()

        def edit(values: Values) -> None:
            key = KEY + record.domain
            put_version(record, _read(key, values[key]) if key in values else None)
            hosts = [
                host for host in hosts_of(self._known(values), values) if host.owner == record.owner
            ]
            quota.check_change(new_record, read(values, record.owner)[0], hosts, force=force)
            values[key] = FORMAT + encode(new_record)

        self.register.change(edit)
        self._shape(new_record)
        return new_record

    def delete(self, record: PoolRecord) -> None:
        """Delete a pool, if it is empty: first its record, then its resource pool."""
        self._known()

        def edit(values: Values) -> None:
            if KEY + record.domain in values:
                hosts = [
                    host
                    for host in hosts_of(self._known(values), values)
                    if host.owner == record.owner
                ]
                quota.check_removal(record, read(values, record.owner)[0], hosts)
                del values[KEY + record.domain]

        self.register.change(edit)
        ref = self.lookup.pool_below(record.domain)
        self.lookup.forget_pools()
        if ref is not None:
            self.tasks.run(
                "delete the resource pool", record.title, ref.Destroy_Task, Deadline(REMOVAL)
            )

    def facts(self, record: PoolRecord) -> PoolFacts:
        """Return the facts of a pool. vCenter enforces the limits of a resource pool."""
        self.lookup.forget_pools()
        exists = self.lookup.pool_below(record.domain) is not None
        reason = "" if exists else "its resource pool no longer exists: run the module pool again"
        return PoolFacts("resource pool" if exists else "admission", reason, None)

    def _shape(self, record: PoolRecord) -> None:
        """Create the resource pool, or change it to match its declaration."""
        spec = specs.resource_pool(record.spec)
        self.lookup.forget_pools()
        ref = self.lookup.pool_below(record.domain)
        if ref is not None:
            self.session.change(
                "change the resource pool", record.title, lambda: ref.UpdateConfig(None, spec)
            )
            return
        parent = self._parent(record)
        try:
            self.session.read(
                "create the resource pool",
                record.title,
                lambda: parent.CreateResourcePool(record.domain, spec),
            )
        except Conflict as error:
            if not is_a(error.__cause__, "DuplicateName"):
                raise
        self.lookup.forget_pools()

    def _parent(self, record: PoolRecord) -> Any:
        if not record.spec.parent:
            return self.lookup.pool
        name = pool_domain(record.owner, record.tenant, record.spec.parent)
        pool = self.lookup.pool_below(name)
        if pool is None:
            raise HypervisorError(
                f"the parent's resource pool {name} no longer exists.",
                name=record.title,
                remedy="create the parent first",
            )
        return pool


def read(
    values: Mapping[str, str], owner: str | None = None
) -> tuple[list[PoolRecord], list[UnreadableObject]]:
    """Return all pools, and the entries that cannot be read."""
    records, unreadable = separate(
        _read(key, value) for key, value in sorted(values.items()) if key.startswith(KEY)
    )
    return [record for record in records if owner in (None, record.owner)], unreadable


def reserve(
    values: Values, index: MachineIndex, host: HostRecord, template: TemplateRecord
) -> None:
    """Reserve a host in the register, if its pool has enough quota.

    :raises PoolQuotaExceeded: with the numbers.
    """
    if host.spec.pool:
        quota.check_quota(host, read(values, host.owner)[0], hosts_of(index, values))
    reservations.reserve(values, index, host, template)


def hosts_of(index: MachineIndex, values: Mapping[str, str]) -> Iterable[HostRecord]:
    """Return every host of any owner that has a machine or a reservation, each once."""
    hosts = {**index.hosts}
    hosts |= {
        record.uuid: record for _name, record in reserved(values) if isinstance(record, HostRecord)
    }
    return hosts.values()


def _read(key: str, value: str) -> PoolRecord | UnreadableObject:
    name = key.removeprefix(KEY)
    return read_record(f"pool {name}", value, _decode, lambda record: record.domain == name)


def _decode(value: str) -> PoolRecord:
    if not value.startswith(FORMAT):
        raise InvalidInput("the format of the record is not known.")
    return decode_pool(value[len(FORMAT) :])
