# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines and their records: pure functions that read and check them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TypeVar

from ...errors import (
    AddressTaken,
    Conflict,
    OperationRefused,
    Unsupported,
)
from ...hypervisor.records import decode
from ...model.host import HostRecord
from ...model.network import Published, clash
from ...model.observation import Record, UnreadableObject
from ...model.template import TemplateRecord
from ..common.stored_records import read_record, require_stored
from .state import Machine, Machines

Either = TypeVar("Either", bound="HostRecord | TemplateRecord")


# The result depends only on the text, so that it can be cached. Without the cache, each change of
# one host would parse the records of a thousand hosts again.
@lru_cache(maxsize=1 << 14)
def record_of(name: str, text: str) -> Record | UnreadableObject:
    """Return the record of the machine with this name, or the reason why it is unreadable."""
    return read_record(name, text, decode, lambda record: record.domain == name)


def list_machines(machines: Machines) -> Iterator[tuple[Record | UnreadableObject, Machine]]:
    """Return all machines with their records."""
    return ((record_of(name, machine.record), machine) for name, machine in machines.items())


def hosts_of(machines: Machines) -> list[HostRecord]:
    """Return every host with a readable record, of any owner."""
    return [
        record for record, _machine in list_machines(machines) if isinstance(record, HostRecord)
    ]


def find(machines: Machines, record: Either) -> tuple[Machine, Either]:
    """Return the machine of a record, and its current record.

    :raises NotFound: if no such machine exists.
    :raises OperationRefused: if the machine's record is unreadable, so that its owner is unknown.
    """
    machine = machines.get(record.domain)
    stored = record_of(record.domain, machine.record) if machine else None
    current = require_stored(record, stored)
    return machines[record.domain], current


def check_frozen(machines: Machines, template: TemplateRecord) -> TemplateRecord:
    """Check that hosts can be forked from a template, and return its current record.

    :raises Unsupported: if the template is not frozen.
    """
    current = find(machines, template)[1]
    if current.phase != "frozen":
        raise Unsupported(
            "the template is not frozen.", name=template.title, remedy="build the template"
        )
    return current


def check_free(machines: Machines, record: Record) -> None:
    """Check that the name and the address of a machine are unused by all owners.

    :raises Conflict: if one of them is in use.
    """
    if record.domain in machines:
        raise Conflict("a machine of this name exists.", name=record.title, cause=record.domain)
    if isinstance(record, HostRecord):
        # Only records that contain the address in their text are parsed, which matters with a
        # thousand hosts.
        likely = {
            name: machine for name, machine in machines.items() if record.address in machine.record
        }
        if any(
            isinstance(candidate, HostRecord) and candidate.address == record.address
            for candidate, _machine in list_machines(likely)
        ):
            raise AddressTaken(
                f"address {record.address} is in use.", name=record.title, remedy="run again"
            )
        check_published(record.title, record.published, machines)


def check_published(title: str, published: Published, machines: Machines) -> None:
    """Check that no host of any owner publishes one of these ports.

    :raises Conflict: if a host publishes one.
    """
    for record, _machine in list_machines(machines) if published else ():
        conflict = clash(published, record.published) if isinstance(record, HostRecord) else None
        if conflict:
            raise Conflict(
                f"port {conflict[1]} cannot be published on {conflict[0]}.",
                name=title,
                cause=f"{record.name} publishes it",
            )


def check_unused(machines: Machines, template: TemplateRecord) -> None:
    """Check that no host uses a template, by its record or by its disk: the disk of an unreadable
    host may be an overlay of the template's disk too.

    :raises OperationRefused: if a host uses it.
    """
    key = (template.owner, template.tenant, template.name, template.generation)
    users = [
        name
        for name, machine in machines.items()
        if machine.backing == template.uuid or _made_of(record_of(name, machine.record)) == key
    ]
    if users:
        raise OperationRefused(
            f"hosts of the template exist: {', '.join(sorted(users)[:10])}.",
            name=template.title,
            remedy="delete the hosts first",
        )


def _made_of(record: Record | UnreadableObject) -> tuple[str, str, str, str] | None:
    """Return the template that a host was forked from."""
    if not isinstance(record, HostRecord):
        return None
    return (record.owner, record.tenant, record.template, record.generation)
