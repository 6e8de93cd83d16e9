# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data of others is parsed within limits, typed strictly, and shown as one printable line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard.errors import StockyardError
from stockyard.escaping import one_line, printable
from stockyard.model import untrusted
from stockyard.model.untrusted import MalformedData

ANYTHING = st.text(st.characters())  # lone surrogates and control characters among them
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANYTHING,
    lambda inner: st.lists(inner) | st.dictionaries(ANYTHING, inner),
    max_leaves=15,
)


def refusal(read: Callable[[], Any]) -> str:
    """Return why data is refused; nothing if it is read."""
    try:
        read()
    except MalformedData as error:
        return str(error) or "no reason"
    return ""


@given(JSON)
def test_json_within_the_limits_is_decoded(value: Any) -> None:
    assert untrusted.parse(json.dumps(value)) == value


@given(st.binary() | ANYTHING)
def test_bytes_of_any_kind_are_read_or_refused(data: bytes | str) -> None:
    assert refusal(lambda: untrusted.parse(data)).isprintable()


@pytest.mark.parametrize(
    "data",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 33 + "]" * 33,
        '{"a":1,"a":2}',
        "NaN",
        "[Infinity]",
        "9" * 5000,
        b"\xff",
        '"\x01"',
        "",
        "{",
        "[1,]",
        "\ufeff{}",
    ],
)
def test_json_beyond_the_limits_is_refused(data: str | bytes) -> None:
    with pytest.raises(MalformedData):
        untrusted.parse(data)


def test_json_that_is_too_long_is_refused() -> None:
    with pytest.raises(MalformedData, match="11 bytes"):
        untrusted.parse(b'"123456789"', longest=10)


READERS: list[Callable[[Any], Any]] = [
    lambda value: untrusted.mapping(value, "it"),
    lambda value: untrusted.items(value, "it", 2),
    lambda value: untrusted.line(value, "it", 20),
    lambda value: untrusted.words(value, "it", 20),
    lambda value: untrusted.flag(value, "it"),
    lambda value: untrusted.whole(value, "it", 0, 9),
]
TYPES = [dict, list, str, str, bool, int]


@pytest.mark.parametrize(("reader", "kind"), list(zip(READERS, TYPES, strict=True)))
@given(value=JSON)
def test_reader_takes_its_own_type_or_refuses(
    reader: Callable[[Any], Any], kind: type, value: Any
) -> None:
    why = refusal(lambda: reader(value))
    assert why.isprintable()
    assert why or (reader(value).__class__ is kind and value.__class__ is kind)


@given(ANYTHING)
def test_line_that_is_accepted_is_printable(text: str) -> None:
    try:
        assert untrusted.line(text, "it") == text
        assert text.isprintable()
    except MalformedData:
        assert not text.isprintable()


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("a\r\nb", "a\\r\\nb"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202egnp", "\\u202egnp"),
        ("\ud800", "\\ud800"),
        ("\u2028", "\\u2028"),
        ("größe 1 €", "größe 1 €"),
    ],
)
def test_text_is_shown_on_one_line(text: str, escaped: str) -> None:
    assert one_line(text) == escaped
    assert untrusted.words(text, "it") == escaped


@given(ANYTHING)
def test_escaped_text_is_not_escaped_twice(text: str) -> None:
    once = one_line(text)
    assert once.isprintable()
    assert one_line(once) == once
    once.encode()


@given(JSON)
def test_plain_data_that_was_escaped_holds_nothing_that_a_terminal_obeys(value: Any) -> None:
    assert json.dumps(printable(value), ensure_ascii=False).replace("\\n", "").isprintable()


@given(ANYTHING, ANYTHING, ANYTHING, ANYTHING)
def test_error_is_one_printable_line(message: str, name: str, cause: str, remedy: str) -> None:
    error = StockyardError(message, name=name, cause=cause, remedy=remedy)
    for part in (
        str(error),
        error.message,
        error.name,
        error.cause,
        error.remedy,
        *map(str, error.args),
    ):
        assert part.isprintable()
