# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records as plain JSON and back, strictly: an unknown field, a missing one or a wrong type is an
error.

A record that cannot be read whole is never guessed at: its owner sees it as unreadable, and it is
left alone.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ..errors import InvalidInput

T = TypeVar("T")
# A field that came later and is left out at its default: records and digests from before it stay
# what they were.
SPARSE = {"sparse": True}


def to_dict(value: Any) -> dict[str, Any]:
    """A dataclass as plain JSON types."""
    return cast("dict[str, Any]", _plain(value))


def from_dict(kind: type[T], data: Any, where: str = "record") -> T:
    """A dataclass out of plain JSON types.

    :raises InvalidInput: when the data does not have exactly the shape of ``kind``.
    """
    if not isinstance(data, Mapping):
        raise InvalidInput(f"{where}: an object was expected, not {type(data).__name__}.")
    hints = _hints(cast("Any", kind))
    unknown = sorted(str(k) for k in data if k not in hints)
    if unknown:
        raise InvalidInput(
            f"{where}: unknown field {unknown[0]!a}.",
            remedy=f"known are {', '.join(sorted(hints))}",
        )
    values = {key: _read(hints[key], item, f"{where}.{key}") for key, item in data.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise InvalidInput(f"{where}: a field is missing.", cause=str(error)) from error


def dumps(value: Any) -> str:
    """Canonical JSON: sorted keys, no white space, ASCII only."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(dumps(value).encode()).hexdigest()


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """The type of each field of a dataclass. Finding it out costs more than reading a
    record does.
    """
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if not _left_out(f, value)
        }
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _left_out(field: dataclasses.Field[Any], value: Any) -> bool:
    return bool(field.metadata.get("sparse")) and getattr(value, field.name) == field.default


def _read(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return (
            None
            if value is None
            else _read(next(a for a in args if a is not type(None)), value, where)
        )
    if dataclasses.is_dataclass(hint):
        return from_dict(cast("type[Any]", hint), value, where)
    if origin is tuple:
        return tuple(_read(args[0], item, where) for item in _instance(list, value, where))
    if origin in (dict, Mapping):
        return {
            _instance(str, key, where): _read(args[1], item, f"{where}.{key}")
            for key, item in _instance(dict, value, where).items()
        }
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return _float(value, where)
    return value if hint is Any else _instance(hint, value, where)


def _float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise InvalidInput(f"{where}: the number is too large.") from error


def _instance(kind: type[Any], value: Any, where: str) -> Any:
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise InvalidInput(f"{where}: {kind.__name__} was expected, not {type(value).__name__}.")
    return value
