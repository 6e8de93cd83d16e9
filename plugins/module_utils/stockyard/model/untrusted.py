# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data from guests, controllers and registries: parsed within limits, typed strictly, and safe to
show. Pure.

Code that reads such data must use these functions. JSON has a largest size and a largest nesting
depth; a field has exactly the expected type; a string is one line of printable text, or is escaped
before it is shown.
"""

from __future__ import annotations

import json
import math
from typing import Any

from ..escaping import one_line

# No answer that stockyard reads nests deeper than ten levels.
DEEPEST = 32
LONGEST = 1 << 24
LONGEST_LINE = 1024


class MalformedData(ValueError):
    """Data without the shape that its reader expects."""


def parse(data: bytes | str, *, longest: int = LONGEST, deepest: int = DEEPEST) -> Any:
    """Return JSON as Python values.

    :param longest: the largest text, in bytes or characters.
    :param deepest: how many arrays and objects can be inside each other.
    :raises MalformedData: for any text but plain, finite JSON in UTF-8 within the limits.
    """
    if len(data) > longest:
        raise MalformedData(f"the text has {len(data)} bytes; {longest} are allowed")
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except MalformedData:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedData(f"the text is not JSON: {one_line(error, 200)}") from error
    _check_depth(value, deepest)
    return value


def mapping(value: Any, subject: str) -> dict[str, Any]:
    """Return a value that is an object."""
    if not isinstance(value, dict):
        raise MalformedData(f"{subject} is {_kind(value)}, not an object")
    return value


def items(value: Any, subject: str, maximum: int = 1 << 16) -> list[Any]:
    """Return a value that is an array of at most ``maximum`` items."""
    if not isinstance(value, list):
        raise MalformedData(f"{subject} is {_kind(value)}, not an array")
    if len(value) > maximum:
        raise MalformedData(f"{subject} has {len(value)} items; {maximum} are allowed")
    return value


def item(data: dict[str, Any], key: str, subject: str) -> Any:
    """Return a field that must exist."""
    if key not in data:
        raise MalformedData(f"{subject} has no {key}")
    return data[key]


def line(value: Any, subject: str, longest: int = LONGEST_LINE) -> str:
    """Return a value that is one line of printable text."""
    if not isinstance(value, str):
        raise MalformedData(f"{subject} is {_kind(value)}, not a string")
    if len(value) > longest or not value.isprintable():
        raise MalformedData(
            f"{subject} is not a line of at most {longest} printable characters: "
            f"{one_line(value, 60)}"
        )
    return value


def text(value: Any, subject: str, longest: int) -> str:
    """Return a value that is a text of any characters, which its reader must not show."""
    if not isinstance(value, str):
        raise MalformedData(f"{subject} is {_kind(value)}, not a string")
    if len(value) > longest:
        raise MalformedData(f"{subject} has {len(value)} characters; {longest} are allowed")
    return value


def words(value: Any, subject: str, longest: int = LONGEST_LINE) -> str:
    """Return a text that others chose freely, escaped and cut to a line that is safe to show."""
    if not isinstance(value, str):
        raise MalformedData(f"{subject} is {_kind(value)}, not a string")
    return one_line(value, longest)


def flag(value: Any, subject: str) -> bool:
    """Return a value that is true or false."""
    if not isinstance(value, bool):
        raise MalformedData(f"{subject} is {_kind(value)}, not true or false")
    return value


def whole(value: Any, subject: str, low: int = 0, high: int = 1 << 31) -> int:
    """Return a value that is a whole number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise MalformedData(f"{subject} is not a whole number from {low} to {high}")
    return value


def number(value: Any, subject: str) -> float:
    """Return a value that is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise MalformedData(f"{subject} is not a finite number")
    return float(value)


def _kind(value: Any) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(type(value), "a number")


def _refuse_constant(name: str) -> Any:
    raise MalformedData(f"the text contains {name}, which is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MalformedData("an object contains a field twice")
    return value


def _check_depth(value: Any, deepest: int) -> None:
    level = [value] if isinstance(value, (dict, list)) else []
    for _depth in range(deepest):
        children = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        level = [child for child in children if isinstance(child, (dict, list))]
    if level:
        raise MalformedData(f"the text nests deeper than {deepest} levels")
