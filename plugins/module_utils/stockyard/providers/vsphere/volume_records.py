# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of volumes in the register: owners, disks and permitted changes. Pure.

A volume is in the register from before its disk is created until the disk is deleted: no disk of
stockyard is without an entry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from ...errors import Conflict, InvalidInput, OperationRefused
from ...hypervisor.records import decode_volume, encode
from ...model import naming, untrusted
from ...model.observation import UnreadableObject, VolumeObservation
from ...model.volume import VolumeRecord
from ..common.stored_records import compare_and_set, read_record, require_stored, separate
from .register import Values
from .reservations import VOLUME

FORMAT = "1 "
FIELDS = ("disk", "of", "record")
LONGEST = 1 << 16
# A file in vCenter's notation: [store] folder/file.vmdk.
DISK = re.compile(r"\[[^\[\]]{1,80}\] [^\[\]]{1,1000}\.vmdk")


@dataclass(frozen=True)
class Entry:
    """One volume.

    :param disk: its file, as in ``[store] folder/file.vmdk``.
    :param of: the UUID of the volume that it is being copied from; empty if there is none.
    """

    record: VolumeRecord
    disk: str
    of: str = ""


def read(values: Mapping[str, str]) -> tuple[list[Entry], list[UnreadableObject]]:
    """Return the volumes of all owners, and the entries that cannot be read."""
    return separate(_read(key, values[key]) for key in sorted(_keys(values)))


def observation(values: Mapping[str, str], owner: str) -> VolumeObservation:
    """Return the volumes of one owner, and the entries that cannot be read."""
    entries, unreadable_objects = read(values)
    own_records = sorted(
        (entry.record for entry in entries if entry.record.owner == owner),
        key=lambda record: record.key,
    )
    return VolumeObservation(tuple(own_records), tuple(unreadable_objects))


def find(values: Mapping[str, str], record: VolumeRecord) -> Entry:
    """Return the current entry of a volume.

    :raises NotFound: if the volume has no entry.
    :raises OperationRefused: if the entry cannot be read.
    """
    key = VOLUME + record.uuid
    existing = _read(key, values[key]) if key in values else None
    require_stored(record, existing.record if isinstance(existing, Entry) else existing)
    return cast("Entry", existing)


def write(values: Values, entry: Entry) -> None:
    """Write an entry, and replace an existing one."""
    fields = {"disk": entry.disk, "of": entry.of, "record": encode(entry.record)}
    values[VOLUME + entry.record.uuid] = FORMAT + json.dumps(fields, sort_keys=True)


def delete(values: Values, record: VolumeRecord) -> None:
    """Delete an entry after its disk."""
    values.pop(VOLUME + record.uuid, None)


def add(values: Values, entry: Entry, source: VolumeRecord | None) -> None:
    """Add a new volume to the register.

    :raises Conflict: if a volume has its name.
    :raises OperationRefused: if an unreadable entry may have its name, or if a host holds the
        source and may be writing to it.
    """
    entries, unreadable_objects = read(values)
    if any(
        (other_entry.record.owner, other_entry.record.key) == (entry.record.owner, entry.record.key)
        for other_entry in entries
    ):
        raise Conflict("a volume of this name exists.", name=entry.record.title, remedy="run again")
    if unreadable_objects:
        raise OperationRefused(
            "an unreadable volume may have the same name.",
            name=entry.record.title,
            cause=f"{unreadable_objects[0].name}: {unreadable_objects[0].reason}",
            remedy="correct or delete its entry in the register's settings",
        )
    if source is not None:
        refuse_held(find(values, source).record, "the volume cannot be copied")
    write(values, entry)


def claim(values: Values, record: VolumeRecord, changes: dict[str, Any]) -> VolumeRecord:
    """Change a record by compare-and-set.

    :raises Conflict: if the version on record differs.
    :raises OperationRefused: if a host would hold a volume that is being copied.
    """
    existing = find(values, record)
    new_record = compare_and_set(record, existing.record, **changes)
    if changes.get("attachment") is not None:
        refuse_copied(values, record)
    write(
        values,
        replace(
            existing, record=new_record, of=existing.of if new_record.phase == "creating" else ""
        ),
    )
    return new_record


def leave(values: Values, record: VolumeRecord) -> Entry:
    """Mark a volume as being deleted, so that no host can claim it.

    :raises OperationRefused: if a host holds the volume, or the volume is being copied.
    """
    existing = find(values, record)
    refuse_held(existing.record, "the volume cannot be deleted")
    refuse_copied(values, record)
    if existing.record.phase != "deleting":
        new_record = compare_and_set(existing.record, existing.record, phase="deleting")
        existing = replace(existing, record=new_record)
        write(values, existing)
    return existing


def refuse_held(record: VolumeRecord, action: str) -> None:
    """Refuse an action that is impossible while a host holds a volume.

    :raises OperationRefused: if a host holds it.
    """
    if record.attachment:
        host = record.attachment.host
        raise OperationRefused(
            f"{action}: it is attached to host {host}.",
            name=record.title,
            remedy=f"detach it from {host} first",
        )


def refuse_copied(values: Mapping[str, str], record: VolumeRecord) -> None:
    """Refuse an action that is impossible while a volume is being copied.

    :raises OperationRefused: if the volume is being copied.
    """
    copies = [
        entry.record
        for entry in read(values)[0]
        if entry.of == record.uuid and entry.record.phase == "creating"
    ]
    if copies:
        raise OperationRefused(
            f"the volume is being copied to {copies[0].title}.",
            name=record.title,
            remedy="run again after the copy; if no controller works on the copy, delete the "
            "copy first",
        )


def _keys(values: Mapping[str, str]) -> Iterator[str]:
    return (key for key in values if key.startswith(VOLUME))


def _read(key: str, value: str) -> Entry | UnreadableObject:
    uuid = key.removeprefix(VOLUME)
    return read_record(f"volume {uuid}", value, _entry, lambda entry: entry.record.uuid == uuid)


def _entry(value: str) -> Entry:
    if not value.startswith(FORMAT):
        raise InvalidInput("the format of the record is not known.")
    try:
        note = untrusted.mapping(untrusted.parse(value[len(FORMAT) :]), "the entry")
        disk, source_uuid, text = (
            untrusted.line(untrusted.item(note, key, "the entry"), key, LONGEST) for key in FIELDS
        )
    except untrusted.MalformedData as error:
        raise InvalidInput("the volume's record cannot be read.", cause=str(error)) from error
    record = decode_volume(text)
    if not DISK.fullmatch(disk):
        raise InvalidInput(f"{naming.shown(disk)} is not the file of a disk.")
    if source_uuid:
        naming.identifier(source_uuid)
    return Entry(record, disk, source_uuid)
