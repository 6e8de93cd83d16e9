# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of values, of which the tables in :mod:`.tables` consist.

Each kind reads a value as Go's decoder does: null is allowed everywhere, keys of a structure match
in any case. A key that a structure does not list is refused unless its value is zero, so that a
newer client works as long as it does not use new features. A kind can have a check, which receives
the policy, the place and the value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from .body import Denied, Pairs, folded, is_zero

Check = Callable[[Any, str, Any], None]


class Kind(Protocol):
    """A kind of values."""

    def read(self, policy: Any, place: str, value: Any) -> Any:
        """Return the value with structures as dictionaries, their keys spelled as in the table.

        :param place: the path of keys that leads to the value, for messages.
        :raises Denied: if the value is of another kind, or its check refuses it.
        """


@dataclass(frozen=True)
class Scalar:
    """A text, a number or a flag."""

    types: tuple[type, ...]
    name: str
    check: Check | None = None

    def read(self, policy: Any, place: str, value: Any) -> Any:
        """Return the value."""
        if value is not None and type(value) not in self.types:
            raise Denied(f"{place} must be {self.name}, not {shown(value)}")
        return _checked(self.check, policy, place, value)


@dataclass(frozen=True)
class Zero:
    """A field that must not be set."""

    def read(self, _policy: Any, place: str, value: Any) -> Any:
        """Return nothing."""
        if not is_zero(value):
            raise Denied(f"{place} may not be set")
        return None


@dataclass(frozen=True)
class Many:
    """A list.

    :param single: whether a text may replace a list of one text, as in Docker's ``strslice``.
    """

    kind: Kind
    single: bool = False
    check: Check | None = None

    def read(self, policy: Any, place: str, value: Any) -> Any:
        """Return the items."""
        if self.single and isinstance(value, str):
            value = [value]
        if isinstance(value, Pairs) or not isinstance(value, (list, type(None))):
            raise Denied(f"{place} must be a list, not {shown(value)}")
        items = None if value is None else [self.kind.read(policy, place, item) for item in value]
        return _checked(self.check, policy, place, items)


@dataclass(frozen=True)
class Map:
    """An object with keys of the user's choice."""

    kind: Kind
    check: Check | None = None

    def read(self, policy: Any, place: str, value: Any) -> Any:
        """Return the values by their keys."""
        pairs = _pairs(place, value)
        items = {key: self.kind.read(policy, f"{place}.{key[:80]}", item) for key, item in pairs}
        if len(items) < len(pairs):
            raise Denied(f"{place} has a key twice")
        return _checked(self.check, policy, place, items)


@dataclass(frozen=True)
class Struct:
    """An object with the keys of one of Docker's structures."""

    keys: dict[str, Kind]
    check: Check | None = None

    @cached_property
    def _names(self) -> dict[str, str]:
        return {folded(name): name for name in self.keys}

    def read(self, policy: Any, place: str, value: Any) -> Any:
        """Return the values by the table's spelling of their keys."""
        fields: dict[str, Any] = {}
        for key, item in _pairs(place, value):
            name = self._names.get(folded(key), folded(key))
            path = f"{place}.{name[:80]}" if place else name[:80]
            if name in fields:
                raise Denied(f"{path} is given twice")
            fields[name] = self.keys.get(name, UNKNOWN).read(policy, path, item)
        return _checked(self.check, policy, place, fields)


@dataclass(frozen=True)
class Unknown:
    """A key that no table lists."""

    def read(self, _policy: Any, place: str, value: Any) -> Any:
        """Return nothing."""
        if not is_zero(value):
            raise Denied(f"{place} is not on the list of known keys")
        return None


def _pairs(place: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, (Pairs, type(None))):
        raise Denied(f"{place or 'the body'} must be an object, not {shown(value)}")
    return value or []


def _checked(check: Check | None, policy: Any, place: str, value: Any) -> Any:
    if check is not None:
        check(policy, place, value)
    return value


def shown(value: Any) -> str:
    """Return the beginning of a value, for messages."""
    return f"{str(value)[:80]!a}"


UNKNOWN = Unknown()
ZERO = Zero()
TEXT = Scalar((str,), "a text")
NUMBER = Scalar((int,), "a whole number")
FLAG = Scalar((bool,), "true or false")
TEXTS = Many(TEXT)
WORDS = Many(TEXT, single=True)
NUMBERS = Many(NUMBER)
LABELS = Map(TEXT)
EMPTY = Struct({})
