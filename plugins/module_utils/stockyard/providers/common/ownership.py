# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The owner of a directory of files: a note in it, from before the first file to after the last.

The record of an object is stored with its machine. Without the note, files whose machine does not
exist any more would have no owner, and files without an owner are never deleted.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from ...errors import InvalidInput
from ...files import write_atomic
from ...hypervisor.records import decode, encode
from ...model import untrusted
from ...model.naming import identifier
from ...model.observation import OrphanedFile, Record


def write(path: Path, uri: str, record: Record, *, durable: bool = True) -> None:
    """Write a note with the record of the files' owner and the URI of their hypervisor.

    :param durable: see :func:`....files.write_atomic`.
    """
    text = json.dumps({"uri": uri, "record": encode(record)})
    write_atomic(path, text, durable=durable)


def read(path: Path, uri: str, owner: str, name: str) -> Record:
    """Return the record of files that are proven to be an owner's.

    :param name: name of the directory, which must be the record's uuid.
    :raises InvalidInput: if they are not, with the reason.
    """
    try:
        note = untrusted.mapping(untrusted.parse(path.read_bytes()), "the note")
        note_uri, text = (str(untrusted.item(note, key, "the note")) for key in ("uri", "record"))
        record = decode(text)
    except FileNotFoundError as error:
        raise InvalidInput("it has no record of its owner") from error
    except (OSError, untrusted.MalformedData, InvalidInput) as error:
        raise InvalidInput(f"the record of its owner cannot be read ({error})") from error
    if note_uri != uri:
        raise InvalidInput(f"it belongs to another hypervisor ({str(note_uri)[:80]})")
    if record.owner != owner:
        raise InvalidInput(f"it belongs to another owner ({record.owner})")
    if record.uuid != name:
        raise InvalidInput("the record of its owner is a copy of another one")
    return record


def is_name(text: str) -> bool:
    """Return whether a text is a valid name of a directory of stockyard."""
    try:
        return bool(identifier(text))
    except InvalidInput:
        return False


def too_young(path: Path, older_than: float) -> str:
    """Return the reason if a file or directory is too young to be deleted, else an empty text.

    The youngest file in a directory counts.
    """
    parts = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    age = time.time() - max(part.lstat().st_mtime for part in parts)
    return f"it was changed {max(0.0, age):.0f} s ago" if older_than and age < older_than else ""


def sorted_out(path: Path, reason: str) -> tuple[list[OrphanedFile], list[OrphanedFile]]:
    """Return a path as an orphan to delete or, if there is a reason, as a file to skip."""
    orphan = OrphanedFile(str(path), "no record refers to it")
    return ([], [OrphanedFile(str(path), reason)]) if reason else ([orphan], [])
