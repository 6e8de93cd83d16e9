# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided before there is a machine: reserved names and addresses, and templates on their
way out.

Entries of the register. A host's record is there from its reservation until its machine carries it;
a template that is to go is there from the moment when no host may come to it any more. Each such
change leaves a new stamp in the register: a controller that finds the stamp it knows has nothing to
read again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ...errors import Conflict, NotFound, OperationRefused, StockyardError
from ...model.host import HostRecord
from ...model.observation import Record, UnreadableObject
from ...model.template import TemplateRecord
from .records import Machine, from_value, record_of, to_value
from .register import Values

HOST = "stockyard.host."
LEAVING = "stockyard.leaving."
POOL = "stockyard.pool."
VOLUME = "stockyard.volume."
STAMP = "stockyard.stamp"
Everything = list[tuple["Record | UnreadableObject", "Machine | None"]]


def reserved(values: Mapping[str, str]) -> Iterator[tuple[str, Record | UnreadableObject]]:
    """The hosts that are reserved, by their names on the hypervisor."""
    for key, value in values.items():
        if key.startswith(HOST):
            yield key.removeprefix(HOST), _record(key.removeprefix(HOST), value)


def everything(values: Mapping[str, str], machines: Iterable[Machine]) -> Everything:
    """All records, of machines and of reservations that have none yet.

    :param values: the register, read before the machines: what it has no more is among these.
    """
    found: Everything = []
    names = set()
    for machine in machines:
        record = record_of(machine)
        if record is not None:
            found.append((record, machine))
            names.add(machine.name)
    return found + [(record, None) for name, record in reserved(values) if name not in names]


@dataclass
class MachineIndex:
    """What all machines were when they were last read.

    :param stamp: the register's of then; ``None`` when they never were.
    """

    stamp: str | None = None
    names: set[str] = field(default_factory=set)
    hosts: dict[str, HostRecord] = field(default_factory=dict)
    templates: set[str] = field(default_factory=set)

    def learn(self, stamp: str, machines: Iterable[Machine]) -> None:
        """Take a whole reading."""
        self.stamp, self.names, self.hosts, self.templates = stamp, set(), {}, set()
        for machine in machines:
            self.names.add(machine.name)
            record = record_of(machine)
            if isinstance(record, HostRecord):
                self.hosts[record.uuid] = record
            elif isinstance(record, TemplateRecord):
                self.templates.add(record.uuid)

    def made(self, host: HostRecord) -> None:
        """A host has a machine now."""
        self.names.add(host.domain)
        self.hosts[host.uuid] = host

    def gone(self, record: Record) -> None:
        """A machine is not there any more."""
        self.names.discard(record.domain)
        self.hosts.pop(record.uuid, None)
        self.templates.discard(record.uuid)


def reserve(
    values: Values, known: MachineIndex, host: HostRecord, template: TemplateRecord
) -> None:
    """Put a host into the book.

    :raises NotFound: when its template is gone or going.
    :raises Conflict: when its name, address or MAC is taken, by a host of any owner.
    """
    if template.uuid not in known.templates or LEAVING + template.uuid in values:
        raise NotFound("it is not on record, or it is being taken away.", name=template.title)
    if host.domain in known.names or HOST + host.domain in values:
        taken = f"{host.domain} is in the yard's folder"
        remedy = "choose another name; or rename that machine, if it is no host"
        raise Conflict(
            "a machine of this name exists.", name=host.title, cause=taken, remedy=remedy
        )
    for other in (
        *known.hosts.values(),
        *(r for _name, r in reserved(values) if isinstance(r, HostRecord)),
    ):
        if other.uuid != host.uuid and other.address == host.address:
            raise Conflict(f"address {host.address} is taken.", name=host.title, remedy="run again")
        if other.uuid != host.uuid and other.mac == host.mac:
            raise Conflict(f"MAC address {host.mac} is taken.", name=host.title, remedy="run again")
    values[HOST + host.domain] = to_value(host)
    stamp(values)


def drop(values: Values, host: Record) -> None:
    """Take a reservation out, if it is this host's.

    :raises Refused: when it cannot be read whose it is.
    """
    value = values.get(HOST + host.domain)
    if value is None:
        return
    there = _record(host.domain, value)
    if isinstance(there, UnreadableObject):
        raise OperationRefused(
            "its record cannot be read: it is left alone.", name=host.title, cause=there.reason
        )
    if there.uuid == host.uuid:
        del values[HOST + host.domain]
        stamp(values)


def leave(values: Values, template: TemplateRecord, read: Callable[[], list[Machine]]) -> None:
    """Say that a template goes, and that no host may come to it.

    :raises Refused: when one lives on it, or something that cannot be read may do so.
    """
    found = everything(values, read())
    users = sorted(
        r.name for r, _machine in found if isinstance(r, HostRecord) and _made_of(r, template)
    )
    if users:
        raise OperationRefused(
            f"hosts live on it: {', '.join(users[:10])}.",
            name=template.title,
            remedy="destroy the hosts first",
        )
    unreadable = [r for r, _machine in found if isinstance(r, UnreadableObject)]
    if unreadable:
        raise OperationRefused(
            "a machine that carries our mark cannot be read, and may live on it.",
            name=template.title,
            cause=f"{unreadable[0].name}: {unreadable[0].reason}",
            remedy="mend or remove that machine by hand",
        )
    values[LEAVING + template.uuid] = "1"
    stamp(values)


def left(values: Values, template: TemplateRecord) -> None:
    """Say that a template is gone."""
    if values.pop(LEAVING + template.uuid, None) is not None:
        stamp(values)


def stamp(values: Values) -> None:
    """Let others see that something changed."""
    values[STAMP] = uuid.uuid4().hex


def empty(values: Mapping[str, str]) -> bool:
    """Whether nothing is reserved and nothing on its way out."""
    return not any(key.startswith((HOST, LEAVING)) for key in values)


def kept(values: Mapping[str, str]) -> bool:
    """Whether there are pools or volumes, which nothing but the register knows of."""
    return any(key.startswith((POOL, VOLUME)) for key in values)


def _record(name: str, value: str) -> Record | UnreadableObject:
    try:
        record = from_value(value)
    except StockyardError as error:
        return UnreadableObject(name, str(error))
    return (
        record
        if record.domain == name
        else UnreadableObject(name, "its record is a copy: it names another machine.")
    )


def _made_of(host: HostRecord, template: TemplateRecord) -> bool:
    mine = (template.owner, template.tenant, template.name, template.generation)
    return (host.owner, host.tenant, host.template, host.generation) == mine
