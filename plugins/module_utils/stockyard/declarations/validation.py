# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validation of declared objects without Ansible, by the same options and with the same results.

The modules validate with Ansible's own validator. A test compares both. Ansible also accepts some
texts for other types, such as JSON for a mapping; here a declaration must have the right types,
apart from numbers, booleans and lists of words that are written as text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import InvalidInput
from ..model.naming import boolean_of

Params = dict[str, Any]


def validated(options: Params, params: Any, location: str) -> Params:
    """Return the validated values of an object, with the defaults of its options.

    :raises InvalidInput: if the values do not match the options.
    """
    if not isinstance(params, dict):
        raise InvalidInput(
            f"{location}: {params!a} is no mapping.", remedy="give options and their values"
        )
    try:
        return _object(options, params, "")
    except _Mismatch as problem:
        raise InvalidInput(
            f"{location}: {problem}.", remedy="see the documentation of the variables"
        ) from None


class _Mismatch(Exception):
    """A value that does not match its option."""


def _object(options: Params, params: Params, place: str) -> Params:
    unknown = sorted(str(name) for name in params if name not in options)
    if unknown:
        known = ", ".join(sorted(options))
        raise _Mismatch(f"{place}{', '.join(unknown)} is not known; the options are {known}")
    values = {name: _option(options[name], params.get(name), place + name) for name in options}
    missing = [
        name for name, facts in options.items() if facts.get("required") and values[name] is None
    ]
    if missing:
        raise _Mismatch(
            f"missing required arguments: {', '.join(place + name for name in missing)}"
        )
    return values


def _option(facts: Params, value: Any, place: str) -> Any:
    if value is None:
        value = facts.get("default")
    if value is None and facts.get("apply_defaults"):
        value = {}
    if value is None:
        return None
    converted = _converted(facts.get("type", "str"), facts, value, place)
    choices = facts.get("choices")
    if choices and converted not in choices:
        raise _Mismatch(f"value of {place} must be one of: {', '.join(choices)}, got: {value}")
    return converted


def _converted(kind: str, facts: Params, value: Any, place: str) -> Any:
    if kind == "list":
        return [_item(facts, item, place) for item in _list(value, place)]
    if kind == "dict" and "options" in facts:
        return _suboptions(facts, value, place)
    try:
        return TYPES[kind](value)
    except (TypeError, ValueError):
        raise _Mismatch(f"{place}: {value!a} is no {NAMES[kind]}") from None


def _item(facts: Params, item: Any, place: str) -> Any:
    kind = facts.get("elements", "str")
    return _converted(kind, {**facts, "type": kind}, item, place)


def _suboptions(facts: Params, value: Any, place: str) -> Params:
    if not isinstance(value, dict):
        raise _Mismatch(f"{place}: {value!a} is no mapping")
    for names in facts.get("mutually_exclusive", ()):
        if len(_set(names, value)) > 1:
            raise _Mismatch(f"{place}: parameters are mutually exclusive: {'|'.join(names)}")
    for names in facts.get("required_one_of", ()):
        if not _set(names, value):
            raise _Mismatch(f"{place}: one of the following is required: {', '.join(names)}")
    return _object(facts["options"], value, f"{place}.")


def _set(names: Sequence[str], value: Params) -> list[str]:
    return [name for name in names if value.get(name) is not None]


def _list(value: Any, place: str) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        return list(value.split(","))
    if isinstance(value, (int, float)):
        return [str(value)]
    raise _Mismatch(f"{place}: {value!a} is no list")


def _text(value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise TypeError
    return str(value)


def expanded_path(value: Any) -> str:
    """Return a path with the values of variables and the home of ``~``."""
    return os.path.expanduser(os.path.expandvars(_text(value)))


def _integer(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise TypeError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def boolean(value: Any) -> bool:
    """Return a boolean that can be written as a word.

    :raises TypeError: if the value is no boolean.
    """
    if isinstance(value, bool):
        return value
    truth = boolean_of(str(value))
    if truth is None:
        raise TypeError
    return truth


def _mapping(value: Any) -> Params:
    if not isinstance(value, dict):
        raise TypeError
    return value


TYPES: dict[str, Callable[[Any], Any]] = {
    "str": _text,
    "path": expanded_path,
    "int": _integer,
    "float": _number,
    "bool": boolean,
    "dict": _mapping,
}
NAMES = {
    "str": "text",
    "path": "path",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "dict": "mapping",
}
