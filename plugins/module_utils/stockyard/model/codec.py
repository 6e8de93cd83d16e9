# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records as plain JSON and back, strictly: an unknown field, a missing field or a wrong type is an
error.

A record that cannot be read completely is never guessed: its owner sees it as unreadable, and
nothing changes it.
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
# Metadata of a field that was added later and is omitted at its default: older records and digests
# do not change.
SPARSE = {"sparse": True}


def to_dict(value: Any) -> dict[str, Any]:
    """Return a dataclass as plain JSON types."""
    return cast("dict[str, Any]", _plain(value))


def from_dict(kind: type[T], data: Any, location: str = "record") -> T:
    """Return a dataclass from plain JSON types.

    :raises InvalidInput: if the data does not have exactly the shape of ``kind``.
    """
    if not isinstance(data, Mapping):
        raise InvalidInput(f"{location}: an object was expected, not {type(data).__name__}.")
    hints = _hints(cast("Any", kind))
    unknown_fields = sorted(str(name) for name in data if name not in hints)
    if unknown_fields:
        raise InvalidInput(
            f"{location}: unknown field {unknown_fields[0]!a}.",
            remedy=f"known are {', '.join(sorted(hints))}",
        )
    values = {key: _read(hints[key], item, f"{location}.{key}") for key, item in data.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise InvalidInput(f"{location}: a field is missing.", cause=str(error)) from error


def dumps(value: Any) -> str:
    """Return canonical JSON: sorted keys, no white space, ASCII only."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(dumps(value).encode()).hexdigest()


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """Return the type of each field of a dataclass. This is cached because it costs more than
    reading a record.
    """
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not _left_out(field, value)
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _left_out(field: dataclasses.Field[Any], value: Any) -> bool:
    if not field.metadata.get("sparse"):
        return False
    factory = field.default_factory
    default = field.default if factory is dataclasses.MISSING else factory()
    return bool(getattr(value, field.name) == default)


def _read(hint: Any, value: Any, location: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return (
            None
            if value is None
            else _read(next(member for member in args if member is not type(None)), value, location)
        )
    if dataclasses.is_dataclass(hint):
        return from_dict(cast("type[Any]", hint), value, location)
    if origin is tuple:
        return tuple(_read(args[0], item, location) for item in _instance(list, value, location))
    if origin in (dict, Mapping):
        return {
            _instance(str, key, location): _read(args[1], item, f"{location}.{key}")
            for key, item in _instance(dict, value, location).items()
        }
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return _float(value, location)
    return value if hint is Any else _instance(hint, value, location)


def _float(value: int, location: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise InvalidInput(f"{location}: the number is too large.") from error


def _instance(kind: type[Any], value: Any, location: str) -> Any:
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise InvalidInput(f"{location}: {kind.__name__} was expected, not {type(value).__name__}.")
    return value
