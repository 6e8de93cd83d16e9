# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report of a yard in a file, for people or for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import InvalidInput
from ..files import write_atomic
from ..model import naming
from ..resources.context import Context
from .html import page
from .metrics import metrics
from .snapshot import Snapshot, take_snapshot

FORMS: dict[str, Callable[[Snapshot], str]] = {"html": page, "metrics": metrics}


def report(ctx: Context, path: Path, form: str, *, check: bool = False) -> tuple[bool, Snapshot]:
    """Write a file that shows the current yard; completely or not at all, because a collector may
    read it at any time.

    :return: whether the file was, or would be, written, and the snapshot.
    """
    naming.choice("format", form, FORMS)
    snapshot = take_snapshot(ctx)
    text = FORMS[form](snapshot).encode()
    try:
        changed = not path.exists() or path.read_bytes() != text
        if changed and not check:
            write_atomic(path, text, None)
    except OSError as error:
        raise InvalidInput(
            "the report cannot be written.",
            name=str(path),
            cause=str(error),
            remedy="choose a file in an existing directory that this user can write",
        ) from error
    return changed, snapshot
