# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a key directory: written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import InvalidInput


def text(path: Path) -> str:
    """What a file holds; what is not text in it shows as question marks, and is refused by whoever
    reads it.
    """
    return path.read_text(encoding="utf-8", errors="replace")


def write(path: Path, content: str, mode: int) -> None:
    """Write a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(
        os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="ascii"
    ) as handle:
        os.fchmod(handle.fileno(), mode)
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(beside, path)


def read_table(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no file.

    :raises InvalidInput: when the file is there and holds something else: it is never taken for
        empty.
    """
    try:
        found = json.loads(text(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(found, dict):
        raise _damaged(path, "it holds no JSON object")
    return found


def write_table(path: Path, table: dict[str, Any]) -> None:
    """Write a JSON object that only its owner reads."""
    write(path, json.dumps(table, indent=1, sort_keys=True) + "\n", 0o600)


def _damaged(path: Path, cause: str) -> InvalidInput:
    return InvalidInput(
        "it cannot be read.", name=str(path), cause=cause, remedy="put it back from a backup"
    )
