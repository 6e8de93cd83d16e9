# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reservations: entries of the register for hosts without a machine and for deleted templates.

A reservation holds a host's name and addresses. A template that is reached over the network has a
reserved address too. A host's record is in the register from its
reservation until its machine carries the record. A template is in the register from the moment when
no new host may use it. Each such change writes a new stamp into the register: a controller that
already knows the stamp does not read the machines again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ...errors import Conflict, NotFound, OperationRefused
from ...model.host import HostRecord
from ...model.observation import Record, UnreadableObject
from ...model.template import TemplateRecord
from ..common.stored_records import read_record, refuse_unreadable
from .records import Machine, from_value, record_of, to_value
from .register import Values

HOST = "stockyard.host."
LEAVING = "stockyard.leaving."
POOL = "stockyard.pool."
VOLUME = "stockyard.volume."
BRANCH = "stockyard.branch."
ADDRESS = "stockyard.address."
STAMP = "stockyard.stamp"
Everything = list[tuple["Record | UnreadableObject", "Machine | None"]]


def reserved(values: Mapping[str, str]) -> Iterator[tuple[str, Record | UnreadableObject]]:
    """Return the reserved hosts, by their names on the hypervisor."""
    for key, value in values.items():
        if key.startswith(HOST):
            yield key.removeprefix(HOST), _record(key.removeprefix(HOST), value)


def list_records(values: Mapping[str, str], machines: Iterable[Machine]) -> Everything:
    """Return all records, of machines and of reservations without a machine.

    :param values: the register, which must be read before the machines: a reservation that was
        deleted from it has a machine among these.
    """
    records: Everything = []
    names = set()
    for machine in machines:
        record = record_of(machine)
        if record is not None:
            records.append((record, machine))
            names.add(machine.name)
    return records + [(record, None) for name, record in reserved(values) if name not in names]


@dataclass
class MachineIndex:
    """All machines as of the last reading.

    :param stamp: the register's stamp at that reading; ``None`` if there was no reading.
    :param has_unreadable: whether a machine has a record that cannot be read.
    """

    stamp: str | None = None
    names: set[str] = field(default_factory=set)
    hosts: dict[str, HostRecord] = field(default_factory=dict)
    templates: set[str] = field(default_factory=set)
    has_unreadable: bool = False

    def learn(self, stamp: str, machines: Iterable[Machine]) -> None:
        """Replace the index by a complete reading."""
        self.stamp, self.names, self.hosts, self.templates = stamp, set(), {}, set()
        self.has_unreadable = False
        for machine in machines:
            self.names.add(machine.name)
            record = record_of(machine)
            if isinstance(record, HostRecord):
                self.hosts[record.uuid] = record
            elif isinstance(record, TemplateRecord):
                self.templates.add(record.uuid)
            elif record is not None:
                self.has_unreadable = True

    def add(self, host: HostRecord) -> None:
        """Add a host that has a machine now."""
        self.names.add(host.domain)
        self.hosts[host.uuid] = host

    def remove(self, record: Record) -> None:
        """Remove the machine of a record, which no longer exists."""
        self.names.discard(record.domain)
        self.hosts.pop(record.uuid, None)
        self.templates.discard(record.uuid)


def reserve(
    values: Values, index: MachineIndex, host: HostRecord, template: TemplateRecord
) -> None:
    """Reserve a host in the register.

    :raises NotFound: if its template does not exist or is being deleted.
    :raises Conflict: if a host of any owner has its name, address or MAC.
    """
    if template.uuid not in index.templates or LEAVING + template.uuid in values:
        raise NotFound("the host has no record, or is being deleted.", name=template.title)
    if host.domain in index.names or HOST + host.domain in values:
        cause = f"{host.domain} is in the yard's folder"
        remedy = "choose another name; or rename that machine, if it is not a host"
        raise Conflict(
            "a machine of this name exists.", name=host.title, cause=cause, remedy=remedy
        )
    for other_host in (
        *index.hosts.values(),
        *(record for _name, record in reserved(values) if isinstance(record, HostRecord)),
    ):
        if other_host.uuid != host.uuid and other_host.address == host.address:
            raise Conflict(
                f"address {host.address} is in use.", name=host.title, remedy="run again"
            )
        if other_host.uuid != host.uuid and other_host.mac == host.mac:
            raise Conflict(
                f"MAC address {host.mac} is in use.", name=host.title, remedy="run again"
            )
    if host.address and host.address in _template_addresses(values):
        raise Conflict(
            f"address {host.address} is in use by a template.", name=host.title, remedy="run again"
        )
    values[HOST + host.domain] = to_value(host)
    stamp(values)


def addresses(values: Mapping[str, str], index: MachineIndex) -> list[str]:
    """Return every address that a host or a template of any owner has."""
    reserved_hosts = (
        record for _name, record in reserved(values) if isinstance(record, HostRecord)
    )
    hosts = (*index.hosts.values(), *reserved_hosts)
    return [*(host.address for host in hosts), *_template_addresses(values)]


def address_of(values: Mapping[str, str], template: TemplateRecord) -> str:
    """Return the address that is reserved for a template; empty for none."""
    return values.get(ADDRESS + template.uuid, "")


def reserve_address(values: Values, template: TemplateRecord, address: str) -> None:
    """Reserve an address for a template, which must have a machine."""
    values[ADDRESS + template.uuid] = address


def release_address(values: Values, template: TemplateRecord) -> None:
    """Delete the reservation of a template's address."""
    values.pop(ADDRESS + template.uuid, None)


def prune_addresses(values: Values, index: MachineIndex) -> None:
    """Delete the reserved addresses of templates that no longer exist."""
    if index.has_unreadable:
        return
    for key in [key for key in values if key.startswith(ADDRESS)]:
        if key.removeprefix(ADDRESS) not in index.templates:
            del values[key]


def delete(values: Values, host: Record) -> None:
    """Delete a reservation, if it is this host's.

    :raises OperationRefused: if the reservation's record cannot be read.
    """
    value = values.get(HOST + host.domain)
    if value is None:
        return
    existing = _record(host.domain, value)
    refuse_unreadable(host, existing)
    if not isinstance(existing, UnreadableObject) and existing.uuid == host.uuid:
        del values[HOST + host.domain]
        stamp(values)


def leave(
    values: Values, template: TemplateRecord, read_machines: Callable[[], list[Machine]]
) -> None:
    """Mark a template as being deleted, so that no new host can use it.

    :raises OperationRefused: if a host uses the template, or an unreadable object may use it.
    """
    records = list_records(values, read_machines())
    users = sorted(
        record.name
        for record, _machine in records
        if isinstance(record, HostRecord) and _made_of(record, template)
    )
    if users:
        raise OperationRefused(
            f"hosts of the template exist: {', '.join(users[:10])}.",
            name=template.title,
            remedy="delete the hosts first",
        )
    unreadable_objects = [
        record for record, _machine in records if isinstance(record, UnreadableObject)
    ]
    if unreadable_objects:
        raise OperationRefused(
            "a machine with metadata of stockyard cannot be read, and may be a host of the "
            "template.",
            name=template.title,
            cause=f"{unreadable_objects[0].name}: {unreadable_objects[0].reason}",
            remedy="correct or delete that machine",
        )
    values[LEAVING + template.uuid] = "1"
    stamp(values)


def delete_template_mark(values: Values, template: TemplateRecord) -> None:
    """Delete the mark and the reserved address of a template that no longer exists."""
    release_address(values, template)
    if values.pop(LEAVING + template.uuid, None) is not None:
        stamp(values)


def stamp(values: Values) -> None:
    """Write a new stamp, which shows other controllers that something changed."""
    values[STAMP] = uuid.uuid4().hex


def empty(values: Mapping[str, str]) -> bool:
    """Check that nothing is reserved and no template is being deleted."""
    return not any(key.startswith((HOST, LEAVING)) for key in values)


def kept(values: Mapping[str, str]) -> bool:
    """Check whether there are pools or volumes, which are recorded only in the register."""
    return any(key.startswith((POOL, VOLUME)) for key in values)


def _template_addresses(values: Mapping[str, str]) -> list[str]:
    return [value for key, value in values.items() if key.startswith(ADDRESS)]


def _record(name: str, value: str) -> Record | UnreadableObject:
    return read_record(name, value, from_value, lambda record: record.domain == name)


def _made_of(host: HostRecord, template: TemplateRecord) -> bool:
    template_key = (template.owner, template.tenant, template.name, template.generation)
    return (host.owner, host.tenant, host.template, host.generation) == template_key
