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
from typing import Any

from ...errors import Conflict, InvalidInput, NotFound, OperationRefused
from ...hypervisor.records import decode_volume, encode
from ...model import naming, untrusted
from ...model.observation import UnreadableObject, VolumeObservation
from ...model.volume import VolumeRecord
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
    entries: list[Entry] = []
    unreadable_objects: list[UnreadableObject] = []
    for key in sorted(_keys(values)):
        try:
            entries.append(_entry(key, values[key]))
        except InvalidInput as error:
            unreadable_objects.append(
                UnreadableObject(f"volume {key.removeprefix(VOLUME)}", str(error))
            )
    return entries, unreadable_objects


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
    value = values.get(VOLUME + record.uuid)
    try:
        existing = None if value is None else _entry(VOLUME + record.uuid, value)
    except InvalidInput as error:
        raise OperationRefused(
            "its record cannot be read: it is left alone.", name=record.title, cause=str(error)
        ) from error
    if existing is None or existing.record.owner != record.owner:
        raise NotFound("it is not on record.", name=record.title)
    return existing


def write(values: Values, entry: Entry) -> None:
    """Write an entry, and replace an existing one."""
    fields = {"disk": entry.disk, "of": entry.of, "record": encode(entry.record)}
    values[VOLUME + entry.record.uuid] = FORMAT + json.dumps(fields, sort_keys=True)


def drop(values: Values, record: VolumeRecord) -> None:
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
            "a volume that cannot be read may have its name.",
            name=entry.record.title,
            cause=f"{unreadable_objects[0].name}: {unreadable_objects[0].reason}",
            remedy="mend its entry in the register's settings, or take it out by hand",
        )
    if source is not None:
        refuse_held(find(values, source).record, "it cannot be copied")
    write(values, entry)


def claim(values: Values, record: VolumeRecord, changes: dict[str, Any]) -> VolumeRecord:
    """Change a record by compare-and-set.

    :raises Conflict: if the version on record differs.
    :raises OperationRefused: if a host would hold a volume that is being copied.
    """
    existing = find(values, record)
    if existing.record.version != record.version:
        raise Conflict(
            "it was changed meanwhile.",
            name=record.title,
            cause=f"version {existing.record.version} is on record, {record.version} was expected",
            remedy="run again",
        )
    if changes.get("attachment") is not None:
        refuse_copied(values, record)
    new_record = replace(record, version=record.version + 1, **changes)
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
    refuse_held(existing.record, "it cannot be deleted")
    refuse_copied(values, record)
    if existing.record.phase != "deleting":
        new_record = replace(existing.record, phase="deleting", version=existing.record.version + 1)
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
            f"{action}: host {host} has it.",
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
            f"it is being copied: {copies[0].title} is made of it.",
            name=record.title,
            remedy="run again when that is made; if nobody is at work on it any more, delete that "
            "first",
        )


def _keys(values: Mapping[str, str]) -> Iterator[str]:
    return (key for key in values if key.startswith(VOLUME))


def _entry(key: str, value: str) -> Entry:
    if not value.startswith(FORMAT):
        raise InvalidInput("the record is of a format that is not known.")
    try:
        note = untrusted.mapping(untrusted.parse(value[len(FORMAT) :]), "the entry")
        disk, source_uuid, text = (
            untrusted.line(untrusted.item(note, key, "the entry"), key, LONGEST) for key in FIELDS
        )
    except untrusted.MalformedData as error:
        raise InvalidInput("its record cannot be read.", cause=str(error)) from error
    record = decode_volume(text)
    if not DISK.fullmatch(disk):
        raise InvalidInput(f"{naming.shown(disk)} is not a disk's file.")
    if source_uuid:
        naming.identifier(source_uuid)
    if record.uuid != key.removeprefix(VOLUME):
        raise InvalidInput("its record is a copy: it names another volume.")
    return Entry(record, disk, source_uuid)
