# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Search for the declaration that a command uses."""

from __future__ import annotations

import os
from pathlib import Path

from ..declarations.file import DeclarationFile
from ..errors import InvalidInput, OperationRefused
from ..paths import expand_user

NONE = "-"
NAME = Path("yard.yml")
# `make demo` writes the path of its declaration to this file of the checkout.
DEMO = Path("build/demo-declaration")


def locate(option: str) -> DeclarationFile | None:
    """Return the declaration that is named, or the one of this directory.

    :param option: the value of ``--yard``.
    :raises InvalidInput: if a declaration is named that does not exist.
    :raises OperationRefused: if another user can write the file that was not named.
    """
    named = option or os.environ.get("STOCKYARD_YARD", "")
    if named == NONE:
        return None
    if named:
        return DeclarationFile(expand_user(named))
    if NAME.is_file():
        _check_writer(NAME)
        return DeclarationFile(NAME)
    if DEMO.is_file():
        _check_writer(DEMO)
        path = Path(DEMO.read_text(encoding="utf-8").strip())
        return DeclarationFile(path) if path.is_file() else None
    return None


def required(option: str) -> DeclarationFile:
    """Return the declaration that is named, or the one of this directory.

    :raises InvalidInput: if there is none.
    """
    file = locate(option)
    if file is None:
        raise InvalidInput(
            "this directory has no declaration.",
            name=str(NAME),
            remedy="write one with stockyard init, or name one with --yard FILE",
        )
    return file


def _check_writer(path: Path) -> None:
    """Refuse a file of another user: it would choose the hypervisor and its keys."""
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o002:
        raise OperationRefused(
            "another user can write the declaration.",
            name=str(path),
            remedy=f"check its contents and name it with --yard {path}, or use --yard {NONE}",
        )
