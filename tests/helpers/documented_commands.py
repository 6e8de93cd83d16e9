# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands and files from the pages of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    *sorted((CHECKOUT / "docs").glob("*.md")),
]
_BLOCK = re.compile(
    r"^(?P<before>[^\n]*)\n\n?```(?P<kind>[a-z]+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
_FILE = re.compile(r"Write\s+this\s+to\s+`(?P<name>[^`/]+)`:\s*$")


def steps(page: Path) -> list[tuple[str, str]]:
    """A page from top to bottom: a command as ("", line), a file to write as (name, text)."""
    text, documented = page.read_text(), []
    for block in _BLOCK.finditer(text):
        named = _FILE.search(text[: block.start("kind") - 3].rstrip()[-200:])
        if block["kind"] == "console":
            documented += [("", line) for line in _lines(block["text"])]
        elif named:
            documented.append((named["name"], block["text"]))
    return documented


def commands(page: Path) -> list[str]:
    """Everything that a page says to type."""
    return [line for name, line in steps(page) if not name]


def _lines(text: str) -> list[str]:
    """The lines after a dollar sign, without the remark behind them; a line that goes on belongs to
    its first.
    """
    joined = text.replace("\\\n", " ")
    return [
        re.sub(r"\s+#\s.*$", "", line[2:]).strip()
        for line in joined.splitlines()
        if line.startswith("$ ")
    ]
