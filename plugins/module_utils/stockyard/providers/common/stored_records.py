# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stored records: the checks before every use and every change of a record, on every hypervisor.
Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from ...errors import Conflict, NotFound, OperationRefused, StockyardError
from ...hypervisor.records import StoredRecord
from ...model.observation import UnreadableObject
from ...model.pool import PoolRecord

# Any record.
S = TypeVar("S", bound=StoredRecord)
T = TypeVar("T")
Text = TypeVar("Text", str, bytes)


def read_record(
    name: str, text: Text, decode: Callable[[Text], T], belongs: Callable[[T], bool]
) -> T | UnreadableObject:
    """Return the record with this text, or an unreadable object with the reason.

    :param name: the name of the object in reports.
    :param decode: raises an error for a text that is no complete record.
    :param belongs: returns whether a record belongs to the place of its text. A record that was
        copied with its object proves nothing about the copy.
    """
    try:
        record = decode(text)
    except StockyardError as error:
        return UnreadableObject(name, str(error))
    if not belongs(record):
        return UnreadableObject(name, "its record is a copy: it names another object.")
    return record


def separate(
    results: Iterable[T | UnreadableObject | None],
) -> tuple[list[T], list[UnreadableObject]]:
    """Return the readable and the unreadable ones of what was read."""
    records: list[T] = []
    unreadable: list[UnreadableObject] = []
    for result in results:
        if isinstance(result, UnreadableObject):
            unreadable.append(result)
        elif result is not None:
            records.append(result)
    return records, unreadable


def refuse_unreadable(record: StoredRecord, stored: object) -> None:
    """Refuse to use a record in whose place an unreadable object is stored: its owner is unknown.

    :raises OperationRefused: with the reason.
    """
    if isinstance(stored, UnreadableObject):
        raise OperationRefused(
            "the record cannot be read; nothing was changed.",
            name=record.title,
            cause=stored.reason,
            remedy="update stockyard if a newer version made it; else repair or remove it by hand",
        )


def require_stored(record: S, stored: object) -> S:
    """Return the stored record of an object.

    :param stored: what is stored in the place of the record: a record, an unreadable object, or
        ``None``.
    :raises NotFound: if the object is not stored, or another object has its place.
    :raises OperationRefused: if the stored record cannot be read, so that its owner is unknown.
    """
    refuse_unreadable(record, stored)
    if stored is None:
        raise NotFound("the object has no record.", name=record.title)
    if not isinstance(stored, type(record)) or (stored.uuid, stored.owner) != (
        record.uuid,
        record.owner,
    ):
        raise NotFound("the object has no record; another object has its name.", name=record.title)
    return stored


def check_version(record: StoredRecord, stored_version: int) -> None:
    """Compare the stored version of a record with the version that a controller knows.

    :raises Conflict: if they differ: another controller changed the record first.
    """
    if stored_version != record.version:
        raise Conflict(
            "the record was changed by another controller.",
            name=record.title,
            cause=f"the record has version {stored_version}; version {record.version} was expected",
            remedy="run again",
        )


def compare_and_set(record: S, stored: object, **changes: Any) -> S:
    """Return the next version of a record with these fields changed.

    Call it under the lock of the place, or write the result on condition that the place is
    unchanged.

    :param stored: see :func:`require_stored`.
    :raises Conflict: if another controller changed the record first.
    """
    check_version(record, require_stored(record, stored).version)
    return replace(record, version=record.version + 1, **changes)


def put_version(record: PoolRecord, stored: PoolRecord | UnreadableObject | None) -> PoolRecord:
    """Return the next version of a pool, which is stored already or has version 0.

    :param stored: what is stored under its name.
    :raises Conflict: if another controller changed the pool first, or created one of its name.
    :raises OperationRefused: if the stored record cannot be read.
    """
    refuse_unreadable(record, stored)
    if isinstance(stored, PoolRecord) and stored.uuid != record.uuid:
        raise Conflict("another pool of its name exists.", name=record.title, remedy="run again")
    check_version(record, stored.version if isinstance(stored, PoolRecord) else 0)
    return replace(record, version=record.version + 1)
