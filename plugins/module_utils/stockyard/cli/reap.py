# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard reap``: deletes expired, incomplete and orphaned objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import say
from .command import DRY_RUN, JSON, Command, Option, Options
from .durations import length

if TYPE_CHECKING:
    from ..yard import Yard


def _reap(yard: Yard, options: Options) -> int:
    result = yard.reap(dry_run=options.dry_run, grace=length("grace", options.grace))
    say.changes(options, [result], "skipped_objects")
    if not options.json:
        for skipped in result.objects:
            say.out(f"skipped: {skipped.kind} {skipped.name}: {skipped.reason}")
    return 0


REAP = Command(
    "reap",
    "delete expired, incomplete and orphaned objects",
    _reap,
    (
        DRY_RUN,
        Option("--grace", "time after which an incomplete object counts as orphaned: 30m", "1h"),
        JSON,
    ),
)
