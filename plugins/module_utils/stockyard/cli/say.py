# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Output of the console command: results on standard output, everything else on standard error.

Colours appear on a terminal only, and not if ``NO_COLOR`` is set.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from ..escaping import one_line
from .command import Options

if TYPE_CHECKING:
    from ..model.info import Info
    from ..result import Result

BOLD, DIM, GREEN, YELLOW, RED = "1", "2", "32", "33", "31"
COLOURS = {
    "running": GREEN, "yes": GREEN, "free": GREEN, "ok": GREEN,
    "suspended": YELLOW, "paused": YELLOW, "missing": YELLOW, "off": RED, "crashed": RED, "no": RED,
    "problem": RED,
}  # fmt: skip


def out(line: str) -> None:
    """Write a line of the result; control characters of terminals are escaped."""
    _write(one_line(line))


def data(value: Any) -> None:
    """Write a result as JSON, in ASCII."""
    _write(json.dumps(value, indent=1))


def shell(line: str) -> None:
    """Write a line for a shell: it is quoted for that, and must arrive unchanged."""
    _write(line)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write rows in columns; the headings appear only if there are rows."""
    lines = [[one_line(str(cell)) or "-" for cell in row] for row in rows]
    if not lines:
        return
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
    _write(_line([_coloured(BOLD, text, sys.stdout) for text in headings], headings, widths))
    for cells in lines:
        coloured_cells = [_coloured(COLOURS.get(cell, ""), cell, sys.stdout) for cell in cells]
        _write(_line(coloured_cells, cells, widths))


def listing(
    options: Options,
    objects: Sequence[Info],
    headings: Sequence[str],
    row: Callable[[Any], Sequence[str]],
) -> int:
    """Write objects in columns, or as JSON.

    :param row: returns the cells of an object.
    """
    if options.json:
        data([item.to_dict() for item in objects])
    else:
        table(headings, [row(item) for item in objects])
    return 0


def actions(options: Options, lines: Sequence[str]) -> None:
    """Write the actions of a plan that was applied, or would be applied."""
    for action in lines:
        out(f"{'would ' * getattr(options, 'dry_run', False)}{action}")


def changes(options: Options, results: Sequence[Result[Any]], kind: str) -> int:
    """Write the actions of changes, or as JSON also the objects in their present state."""
    plan = [str(action) for result in results for action in result.plan.actions]
    if options.json:
        objects = [info.to_dict() for result in results for info in result.objects]
        data({"changed": bool(plan), "plan": plan, kind: objects})
    else:
        actions(options, plan)
    return 0


def err(line: str) -> None:
    """Write a line for the user; control characters of terminals are escaped."""
    sys.stderr.write(f"{one_line(line)}\n")
    sys.stderr.flush()


def progress(line: str) -> None:
    """Write a line of progress for the user."""
    sys.stderr.write(f"{_coloured(DIM, one_line(line), sys.stderr)}\n")
    sys.stderr.flush()


def _line(texts: Sequence[str], cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return a line of a table. The widths count characters without colours."""
    padded = [
        text + " " * (width - len(cell))
        for text, cell, width in zip(texts, cells, widths, strict=True)
    ]
    return "  ".join(padded).rstrip()


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream leads to a terminal that shows colours."""
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


def _coloured(colour: str, text: str, stream: TextIO) -> str:
    if not colour or not is_terminal(stream) or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
