# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines and their records: what each proves, and whom it refers to. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TypeVar

from ...errors import (
    AddressTaken,
    Conflict,
    NotFound,
    OperationRefused,
    StockyardError,
    Unsupported,
)
from ...hypervisor.records import decode
from ...model.host import HostRecord
from ...model.network import Published, clash
from ...model.observation import Record, UnreadableObject
from ...model.template import TemplateRecord
from .state import Machine, Machines

Either = TypeVar("Either", bound="HostRecord | TemplateRecord")


# Text to value, so it is safe to keep: without it, a thousand hosts would be parsed anew for every
# change of one.
@lru_cache(maxsize=1 << 14)
def record_of(name: str, text: str) -> Record | UnreadableObject:
    """The record of the machine of this name, or why it proves nothing."""
    try:
        record = decode(text)
    except StockyardError as error:
        return UnreadableObject(name, str(error))
    return (
        record
        if record.domain == name
        else UnreadableObject(name, "its record is a copy: it names another machine.")
    )


def everything(machines: Machines) -> Iterator[tuple[Record | UnreadableObject, Machine]]:
    """All machines, with their records."""
    return ((record_of(name, machine.record), machine) for name, machine in machines.items())


def hosts_of(machines: Machines) -> list[HostRecord]:
    """Every host that can be read, of any owner."""
    return [record for record, _machine in everything(machines) if isinstance(record, HostRecord)]


def find(machines: Machines, record: Either) -> tuple[Machine, Either]:
    """The machine of a record, and its record of now.

    :raises NotFound: when there is none.
    :raises Refused: when it cannot be read whose it is.
    """
    machine = machines.get(record.domain)
    if machine is None:
        raise NotFound("it is not on record.", name=record.title)
    there = record_of(record.domain, machine.record)
    if isinstance(there, UnreadableObject):
        raise OperationRefused(
            "its record cannot be read: it is left alone.", name=record.title, cause=there.reason
        )
    if not isinstance(there, type(record)) or there.uuid != record.uuid:
        raise NotFound("it is not on record; another machine has its name.", name=record.title)
    return machine, there


def check_frozen(machines: Machines, template: TemplateRecord) -> TemplateRecord:
    """Refuse a template that no host can be forked from; return its record of now.

    :raises Unsupported: if it is not frozen.
    """
    current = find(machines, template)[1]
    if current.phase != "frozen":
        raise Unsupported(
            "the template is not frozen.", name=template.title, remedy="build the template"
        )
    return current


def check_free(machines: Machines, record: Record) -> None:
    """Refuse a name or an address that is taken, whoever has it.

    :raises Conflict: when it is.
    """
    if record.domain in machines:
        raise Conflict("a machine of this name exists.", name=record.title, cause=record.domain)
    if isinstance(record, HostRecord):
        # Among a thousand hosts it is only worth reading those whose text has the address
        # somewhere.
        likely = {
            name: machine for name, machine in machines.items() if record.address in machine.record
        }
        if any(
            isinstance(r, HostRecord) and r.address == record.address
            for r, _machine in everything(likely)
        ):
            raise AddressTaken(
                f"address {record.address} is taken.", name=record.title, remedy="run again"
            )
        check_published(record.title, record.published, machines)


def check_published(title: str, wanted: Published, machines: Machines) -> None:
    """Refuse what a host publishes, whoever's it is.

    :raises Conflict: when one does.
    """
    for other, _machine in everything(machines) if wanted else ():
        found = clash(wanted, other.published) if isinstance(other, HostRecord) else None
        if found:
            raise Conflict(
                f"port {found[1]} cannot be published on {found[0]}.",
                name=title,
                cause=f"{other.name} has it",
            )


def check_unused(machines: Machines, template: TemplateRecord) -> None:
    """Refuse a template that is in use, by record or by disk: an unreadable host needs the disk
    under its own too.

    :raises Refused: when it is.
    """
    key = (template.owner, template.tenant, template.name, template.generation)
    users = [
        name
        for name, machine in machines.items()
        if machine.backing == template.uuid or _made_of(record_of(name, machine.record)) == key
    ]
    if users:
        raise OperationRefused(
            f"hosts live on it: {', '.join(sorted(users)[:10])}.",
            name=template.title,
            remedy="destroy the hosts first",
        )


def _made_of(record: Record | UnreadableObject) -> tuple[str, str, str, str] | None:
    """The template that a host was forked from."""
    if not isinstance(record, HostRecord):
        return None
    return (record.owner, record.tenant, record.template, record.generation)
