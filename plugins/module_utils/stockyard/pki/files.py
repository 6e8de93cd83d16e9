# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a key directory."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from ..files import write_atomic


def text(path: Path) -> str:
    """Return the content of a file; bytes that are not text become question marks, which its
    readers refuse.
    """
    return path.read_text(encoding="utf-8", errors="replace")


def write(path: Path, content: str, mode: int) -> None:
    """Write a file of text, and create its directory if needed.

    :raises InvalidInput: if another user controls the directory.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    refuse_foreign(path.parent)
    write_atomic(path, content.encode("utf-8", "surrogateescape"), mode)


def refuse_foreign(folder: Path) -> None:
    """Check that no user except this one and root can replace the files of a directory. In a user
    namespace, the owner of the root directory stands for root.

    :raises InvalidInput: if the directory, or one that contains it, belongs to another user, or if
        all users can replace files in it.
    """
    trusted_users = (0, Path("/").stat().st_uid, os.geteuid())
    for directory in (folder, *folder.resolve().parents):
        status = directory.stat()
        if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            raise _foreign(
                folder,
                f"all users can replace the files of {directory}",
                f"remove the permission with chmod o-w {directory}, or set another directory",
            )
        owner = status.st_uid
        if owner not in trusted_users:
            raise _foreign(
                folder,
                f"{directory} belongs to user {owner}, and this is user {os.geteuid()}",
                f"run as user {owner}, or set a directory of this user",
            )


def read_table(path: Path) -> dict[str, Any]:
    """Return a JSON object; an empty one if the file does not exist.

    :raises InvalidInput: if the file exists and contains anything else: it never counts as empty.
    """
    try:
        table = json.loads(text(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(table, dict):
        raise _damaged(path, "the file is not a JSON object")
    return table


def write_table(path: Path, table: dict[str, Any]) -> None:
    """Write a JSON object that only its owner can read."""
    write(path, json.dumps(table, indent=1, sort_keys=True) + "\n", 0o600)


def _foreign(folder: Path, cause: str, remedy: str) -> InvalidInput:
    return InvalidInput(
        "the directory is not safe for keys.", name=str(folder), cause=cause, remedy=remedy
    )


def _damaged(path: Path, cause: str) -> InvalidInput:
    return InvalidInput(
        "the file cannot be read.",
        name=str(path),
        cause=cause,
        remedy="restore the file from a backup",
    )
