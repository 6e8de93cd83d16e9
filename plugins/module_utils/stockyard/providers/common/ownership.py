# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a directory of files is: a note in it, from before the first file to after the last.

An object's record is with its machine. Files whose machine is gone would be nobody's without this,
and what is nobody's is never removed.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from ...errors import InvalidInput
from ...hypervisor.records import decode, encode
from ...model import untrusted
from ...model.naming import identifier
from ...model.observation import OrphanedFile, Record


def write(path: Path, uri: str, record: Record) -> None:
    """Note whose files they are, and which hypervisor's."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(json.dumps({"uri": uri, "record": encode(record)}), encoding="utf-8")
    os.replace(beside, path)


def read(path: Path, uri: str, owner: str, name: str) -> Record:
    """The record of files that are proven to be an owner's.

    :param name: what they are called; it has to be the record's uuid.
    :raises InvalidInput: when they are not, saying why.
    """
    try:
        note = untrusted.mapping(untrusted.parse(path.read_bytes()), "the note")
        where, text = (str(untrusted.item(note, key, "the note")) for key in ("uri", "record"))
        record = decode(text)
    except FileNotFoundError as error:
        raise InvalidInput("nothing says whose it is") from error
    except (OSError, untrusted.MalformedData, InvalidInput) as error:
        raise InvalidInput(f"it cannot be read whose it is ({error})") from error
    if where != uri:
        raise InvalidInput(f"it belongs to another hypervisor ({str(where)[:80]})")
    if record.owner != owner:
        raise InvalidInput(f"it belongs to another owner ({record.owner})")
    if record.uuid != name:
        raise InvalidInput("whose it is was copied from another one")
    return record


def is_name(text: str) -> bool:
    """Whether something is called as we call directories."""
    try:
        return bool(identifier(text))
    except InvalidInput:
        return False


def too_young(path: Path, older_than: float) -> str:
    """Why a file or directory may not go yet; empty when it may. The youngest thing in
    it counts.
    """
    parts = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    age = time.time() - max(part.lstat().st_mtime for part in parts)
    return f"it was changed {max(0.0, age):.0f} s ago" if older_than and age < older_than else ""


def sorted_out(path: Path, why_not: str) -> tuple[list[OrphanedFile], list[OrphanedFile]]:
    """What goes and what stays, of one."""
    gone = OrphanedFile(str(path), "nothing refers to it")
    return ([], [OrphanedFile(str(path), why_not)]) if why_not else ([gone], [])
