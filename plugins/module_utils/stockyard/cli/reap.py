# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard reap``: deletes expired, incomplete and orphaned objects."""

from __future__ import annotations

import argparse
from typing import Any

from ..yard import Yard
from . import say
from .durations import length


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command and its options to the parser."""
    reap = commands.add_parser(
        "reap", parents=[common], help="delete expired, incomplete and orphaned objects"
    )
    reap.add_argument(
        "--dry-run", action="store_true", help="print the objects to delete, and delete nothing"
    )
    reap.add_argument(
        "--grace",
        default="1h",
        help="time after which an incomplete object counts as orphaned: 30m",
    )
    reap.add_argument("--json", action="store_true")
    reap.set_defaults(run=_reap)


def _reap(yard: Yard, options: argparse.Namespace) -> int:
    result = yard.reap(dry_run=options.dry_run, grace=length("grace", options.grace))
    if options.json:
        plan = [str(action) for action in result.plan.actions]
        say.data(
            {"plan": plan, "skipped_objects": [skipped.to_dict() for skipped in result.objects]}
        )
        return 0
    for action in result.plan.actions:
        say.out(f"{'would ' * options.dry_run}{action}")
    for skipped in result.objects:
        say.out(f"skipped: {skipped.kind} {skipped.name}: {skipped.reason}")
    return 0
