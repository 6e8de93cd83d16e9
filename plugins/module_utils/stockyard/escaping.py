# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text of others as one printable line, so that terminals, logs and progress files do not interpret
it. Pure.
"""

from __future__ import annotations

from typing import Any


def one_line(text: object, longest: int = 0) -> str:
    """Return text with all characters that are not printable escaped, as ``\\x1b`` or ``\\u202e``.

    This includes control characters, line breaks, bidirectional overrides, invisible characters and
    lone surrogates. A text that was escaped before does not change.

    :param longest: the longest text, in characters, before escaping; 0 for any length.
    """
    full_text = str(text)
    excerpt = f"{full_text[:longest]}…" if 0 < longest < len(full_text) else full_text
    return excerpt if excerpt.isprintable() else "".join(map(_escaped, excerpt))


def printable(value: Any) -> Any:
    """Return plain data with every text in it escaped; line breaks and tabs stay, because
    certificates need them.
    """
    if isinstance(value, str):
        return (
            value
            if value.isprintable()
            else "".join(
                character if character in "\n\t" else _escaped(character) for character in value
            )
        )
    if isinstance(value, dict):
        return {printable(key): printable(item) for key, item in value.items()}
    return [printable(item) for item in value] if isinstance(value, (list, tuple)) else value


def _escaped(character: str) -> str:
    return (
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
    )
