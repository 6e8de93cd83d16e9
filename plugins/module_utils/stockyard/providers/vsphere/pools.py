# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools on vSphere: admission by the register, where hosts are reserved too, and a real resource
pool for each.

The resource pool is made before the record of it is written and taken away after: a record never
names what is not there. Hosts of a pool are cloned into it, so that vCenter holds them to its
limits, reservations and shares.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from ...clock import Deadline
from ...errors import Conflict, HypervisorError, InvalidInput
from ...model import codec, untrusted
from ...model.host import HostRecord
from ...model.observation import UnreadableObject
from ...model.pool import PoolRecord, pool_domain
from ...model.template import TemplateRecord
from ...planning import quota
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

    :param known: what all machines are by values of the register; called without any, it looks
        again.
    """

    def __init__(
        self,
        session: Session,
        tasks: Tasks,
        lookup: Lookup,
        register: Register,
        known: Callable[..., MachineIndex],
        guard: Guard,
    ) -> None:
        self.session = session
        self.lookup = lookup
        self.tasks = tasks
        self.register = register
        self._known = known
        self._guard = guard

    def put(self, record: PoolRecord, *, force: bool = False) -> PoolRecord:
        """Compare and set, in the register; then the resource pool follows."""
        self._guard.demand("pools")
        kept = replace(record, version=record.version + 1)
        self._known()

        def edit(values: Values) -> None:
            _compare(record, values)
            hosts = [h for h in hosts_of(self._known(values), values) if h.owner == record.owner]
            quota.check_change(kept, read(values, record.owner)[0], hosts, force=force)
            values[KEY + record.domain] = FORMAT + json.dumps(codec.to_dict(kept), sort_keys=True)

        self.register.change(edit)
        self._shape(kept)
        return kept

    def delete(self, record: PoolRecord) -> None:
        """Take a pool away: its record, then its resource pool, if nothing is in that."""
        self._known()

        def edit(values: Values) -> None:
            if KEY + record.domain in values:
                hosts = [
                    h for h in hosts_of(self._known(values), values) if h.owner == record.owner
                ]
                quota.check_removal(record, read(values, record.owner)[0], hosts)
                del values[KEY + record.domain]

        self.register.change(edit)
        ref = self.lookup.pool_below(record.domain)
        self.lookup.forget_pools()
        if ref is not None:
            self.tasks.run(
                "remove the resource pool", record.title, ref.Destroy_Task, Deadline(REMOVAL)
            )

    def facts(self, record: PoolRecord) -> dict[str, Any]:
        """vCenter keeps what is in a resource pool to its share."""
        self.lookup.forget_pools()
        there = self.lookup.pool_below(record.domain) is not None
        why = "" if there else "its resource pool is gone: run the module pool again"
        return {
            "enforced": "resource pool" if there else "admission",
            "enforced_reason": why,
            "available_mib": None,
        }

    def _shape(self, record: PoolRecord) -> None:
        """Have the resource pool as it is declared."""
        spec = specs.resource_pool(record.spec)
        self.lookup.forget_pools()
        ref = self.lookup.pool_below(record.domain)
        if ref is not None:
            self.session.tell(
                "change the resource pool", record.title, lambda: ref.UpdateConfig(None, spec)
            )
            return
        parent = self._parent(record)
        try:
            self.session.ask(
                "make the resource pool",
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
        found = self.lookup.pool_below(name)
        if found is None:
            raise HypervisorError(
                f"its parent's resource pool {name} is gone.",
                name=record.title,
                remedy="create the parent first",
            )
        return found


def read(
    values: Mapping[str, str], owner: str | None = None
) -> tuple[list[PoolRecord], list[UnreadableObject]]:
    """All pools, and what cannot be read."""
    found: list[PoolRecord] = []
    unreadable: list[UnreadableObject] = []
    for key, value in sorted(values.items()):
        if not key.startswith(KEY):
            continue
        try:
            record = _record(key, value)
            found += [record] if owner in (None, record.owner) else []
        except (untrusted.MalformedData, InvalidInput) as error:
            unreadable.append(
                UnreadableObject(key.removeprefix(KEY), f"it cannot be read: {error}")
            )
    return found, unreadable


def reserve(
    values: Values, known: MachineIndex, host: HostRecord, template: TemplateRecord
) -> None:
    """Put a host into the book, if there is room for it.

    :raises PoolQuotaExceeded: with the numbers.
    """
    if host.spec.pool:
        quota.admit(host, read(values, host.owner)[0], hosts_of(known, values))
    reservations.reserve(values, known, host, template)


def hosts_of(known: MachineIndex, values: Mapping[str, str]) -> Iterable[HostRecord]:
    """Every host that has a machine or is reserved, of any owner, once."""
    there = {**known.hosts}
    there |= {r.uuid: r for _name, r in reserved(values) if isinstance(r, HostRecord)}
    return there.values()


def _compare(record: PoolRecord, values: Mapping[str, str]) -> None:
    value = values.get(KEY + record.domain)
    there = None if value is None else _record(KEY + record.domain, value)
    version = there.version if there else 0
    if version != record.version or (there and there.uuid != record.uuid):
        raise Conflict(
            "it was changed meanwhile.",
            name=record.title,
            cause=f"version {version} is on record, {record.version} was expected",
            remedy="run again",
        )


def _record(key: str, value: str) -> PoolRecord:
    if not value.startswith(FORMAT):
        raise InvalidInput("the record is of a format that is not known.")
    record = codec.from_dict(PoolRecord, untrusted.parse(value[len(FORMAT) :]), key)
    if key != KEY + record.domain:
        raise InvalidInput("it is a copy: it names another pool.")
    return record
