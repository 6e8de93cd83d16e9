# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volumes in the register: whose they are, where their disks are, and what may become of them.
Pure.

A volume is in the register before its disk is made, and until that is gone: no disk of ours is
without an entry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...errors import Conflict, InvalidInput, NotFound, OperationRefused
from ...model import naming, untrusted
from ...model.observation import UnreadableObject
from ...model.volume import VolumeRecord, decode, encode
from .register import Values
from .reservations import VOLUME

FORMAT = "1 "
FIELDS = ("disk", "of", "record")
LONGEST = 1 << 16
# As vCenter writes a file: [store] folder/file.vmdk.
DISK = re.compile(r"\[[^\[\]]{1,80}\] [^\[\]]{1,1000}\.vmdk")


@dataclass(frozen=True)
class Entry:
    """One volume.

    :param disk: its file, as in ``[store] folder/file.vmdk``.
    :param of: the uuid of the volume that it is being copied from; empty when it is made.
    """

    record: VolumeRecord
    disk: str
    of: str = ""


def read(values: Mapping[str, str]) -> tuple[list[Entry], list[UnreadableObject]]:
    """All volumes, of whatever owner, and what cannot be read."""
    found: list[Entry] = []
    unreadable: list[UnreadableObject] = []
    for key in sorted(_keys(values)):
        try:
            found.append(_entry(key, values[key]))
        except InvalidInput as error:
            unreadable.append(UnreadableObject(f"volume {key.removeprefix(VOLUME)}", str(error)))
    return found, unreadable


def find(values: Mapping[str, str], record: VolumeRecord) -> Entry:
    """The entry of now.

    :raises NotFound: when there is none.
    :raises Refused: when it cannot be read whose it is.
    """
    value = values.get(VOLUME + record.uuid)
    try:
        there = None if value is None else _entry(VOLUME + record.uuid, value)
    except InvalidInput as error:
        raise OperationRefused(
            "its record cannot be read: it is left alone.", name=record.title, cause=str(error)
        ) from error
    if there is None or there.record.owner != record.owner:
        raise NotFound("it is not on record.", name=record.title)
    return there


def write(values: Values, entry: Entry) -> None:
    """Put an entry in the place of what is there."""
    text = {"disk": entry.disk, "of": entry.of, "record": encode(entry.record)}
    values[VOLUME + entry.record.uuid] = FORMAT + json.dumps(text, sort_keys=True)


def drop(values: Values, record: VolumeRecord) -> None:
    """Take an entry out: its disk is gone."""
    values.pop(VOLUME + record.uuid, None)


def add(values: Values, entry: Entry, source: VolumeRecord | None) -> None:
    """Put a new volume into the book.

    :raises Conflict: when its name is taken.
    :raises Refused: when that cannot be seen, or when somebody has its source, who may be writing
        to it.
    """
    found, unreadable = read(values)
    if any((e.record.owner, e.record.key) == (entry.record.owner, entry.record.key) for e in found):
        raise Conflict("a volume of this name exists.", name=entry.record.title, remedy="run again")
    if unreadable:
        raise OperationRefused(
            "a volume that cannot be read may have its name.",
            name=entry.record.title,
            cause=f"{unreadable[0].name}: {unreadable[0].reason}",
            remedy="mend its entry in the register's settings, or take it out by hand",
        )
    if source is not None:
        refuse_held(find(values, source).record, "it cannot be copied")
    write(values, entry)


def claim(values: Values, record: VolumeRecord, changes: dict[str, Any]) -> VolumeRecord:
    """Compare and set.

    :raises Conflict: when the version on record is another.
    :raises Refused: when somebody wants to write to what is being copied.
    """
    there = find(values, record)
    if there.record.version != record.version:
        raise Conflict(
            "it was changed meanwhile.",
            name=record.title,
            cause=f"version {there.record.version} is on record, {record.version} was expected",
            remedy="run again",
        )
    if changes.get("holder") is not None:
        refuse_copied(values, record)
    changed = replace(record, version=record.version + 1, **changes)
    write(
        values, replace(there, record=changed, of=there.of if changed.phase == "creating" else "")
    )
    return changed


def leave(values: Values, record: VolumeRecord) -> Entry:
    """Say that a volume goes, so that nobody comes to have it.

    :raises Refused: when somebody has it, or it is being copied.
    """
    there = find(values, record)
    refuse_held(there.record, "it cannot be deleted")
    refuse_copied(values, record)
    if there.record.phase != "deleting":
        goes = replace(there.record, phase="deleting", version=there.record.version + 1)
        there = replace(there, record=goes)
        write(values, there)
    return there


def refuse_held(record: VolumeRecord, what: str) -> None:
    """Refuse what cannot be done while a host has a volume."""
    if record.holder:
        host = record.holder.host
        raise OperationRefused(
            f"{what}: host {host} has it.", name=record.title, remedy=f"detach it from {host} first"
        )


def refuse_copied(values: Mapping[str, str], record: VolumeRecord) -> None:
    """Refuse what cannot be done while a volume is being copied."""
    copies = [
        e.record for e in read(values)[0] if e.of == record.uuid and e.record.phase == "creating"
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
        disk, of, text = (
            untrusted.line(untrusted.item(note, key, "the entry"), key, LONGEST) for key in FIELDS
        )
    except untrusted.MalformedData as error:
        raise InvalidInput("its record cannot be read.", cause=str(error)) from error
    record = decode(text)
    if not DISK.fullmatch(disk):
        raise InvalidInput(f"{naming.shown(disk)} is not a disk's file.")
    if of:
        naming.identifier(of)
    if record.uuid != key.removeprefix(VOLUME):
        raise InvalidInput("its record is a copy: it names another volume.")
    return Entry(record, disk, of)
