# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard report``: writes a page or metrics of the yard to a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import say
from .command import JSON, Argument, Command, Option, Options

if TYPE_CHECKING:
    from ..yard import Yard

FORMATS = ("html", "metrics")


def _report(yard: Yard, options: Options) -> int:
    report = yard.report(options.file, options.format)
    if options.json:
        say.data(report.to_dict())
    else:
        say.out(f"{'wrote' if report.changed else 'unchanged:'} {report.dest}")
    return 0


REPORT = Command(
    "report",
    "write the present state of the yard to a file",
    _report,
    (
        Argument("file", "FILE", "the file to write"),
        Option(
            "--format",
            "a page for people, or metrics for Prometheus",
            FORMATS[0],
            choices=FORMATS,
        ),
        JSON,
    ),
)
