# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text of others as one printable line, so that no terminal, log or progress file obeys
it. Pure.
"""

from __future__ import annotations

from typing import Any


def one_line(text: object, longest: int = 0) -> str:
    """Return text with everything that is not printable escaped, as ``\\x1b`` or ``\\u202e``.

    That covers control characters, line breaks, bidirectional overrides, invisible characters and
    lone surrogates. A text that was escaped before stays as it is.

    :param longest: the longest text, in characters, before escaping; 0 for any.
    """
    whole = str(text)
    part = f"{whole[:longest]}…" if 0 < longest < len(whole) else whole
    return part if part.isprintable() else "".join(map(_escaped, part))


def printable(value: Any) -> Any:
    """Return plain data with every text in it escaped; line breaks and tabs stay, as certificates
    need them.
    """
    if isinstance(value, str):
        return (
            value
            if value.isprintable()
            else "".join(c if c in "\n\t" else _escaped(c) for c in value)
        )
    if isinstance(value, dict):
        return {printable(key): printable(item) for key, item in value.items()}
    return [printable(item) for item in value] if isinstance(value, (list, tuple)) else value


def _escaped(character: str) -> str:
    return (
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
    )
