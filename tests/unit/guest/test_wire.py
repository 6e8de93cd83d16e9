# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wire format: what fits through it, and what does not."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard.guest.agent import wire

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
MESSAGES = st.dictionaries(st.text(), VALUES)


@given(MESSAGES)
def test_message_is_equal_after_sending_and_receiving(message: dict[str, Any]) -> None:
    line = wire.encode(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert line.isascii()
    assert wire.decode(line) == message


@given(st.lists(MESSAGES, max_size=3), st.lists(st.integers(1, 40), min_size=1))
def test_lines_do_not_depend_on_the_chunks(messages: list[dict[str, Any]], cuts: list[int]) -> None:
    stream, lines = b"".join(wire.encode(m) for m in messages), wire.Lines()
    complete_lines: list[bytes] = []
    while stream:
        size = cuts[len(complete_lines) % len(cuts)]
        complete_lines += lines.feed(stream[:size])
        stream = stream[size:]
    assert [wire.decode(line) for line in complete_lines] == messages


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"null",
        b"[]",
        b"5",
        b'"x"',
        b"{",
        b"{}{}",
        b"{'a': 1}",
        b"\xff\xfe",
        b'{"a": "\xc3\x28"}',
        b"\0",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"9" * 10_000,
        b'{"a": 1}garbage',
    ],
)
def test_line_that_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(line)


@given(st.binary())
def test_arbitrary_bytes_are_a_message_or_refused(line: bytes) -> None:
    with contextlib.suppress(wire.WireError):
        assert isinstance(wire.decode(line), dict)


def test_a_message_that_is_too_long_is_not_sent() -> None:
    assert wire.encode({"x": "a" * (wire.MAX_LINE - 9)})
    with pytest.raises(wire.WireError, match="over the limit"):
        wire.encode({"x": "a" * wire.MAX_LINE})


def test_fifty_megabytes_without_an_end_are_refused_at_once_and_not_kept() -> None:
    lines, refused = wire.Lines(), 0
    for _chunk in range(50 * 16):
        try:
            assert lines.feed(b"a" * 65536) == []
        except wire.WireError:
            refused += 1
        assert len(lines._rest) <= wire.MAX_LINE
    assert refused
    lines.reset()
    assert lines.feed(b'{"a":1}\n') == [b'{"a":1}']


def test_one_long_line_among_others_is_refused() -> None:
    with pytest.raises(wire.WireError):
        wire.Lines().feed(b"{}\n" + b"a" * (wire.MAX_LINE + 1) + b"\n{}\n")


def test_a_half_line_is_forgotten_when_the_other_side_hangs_up() -> None:
    lines = wire.Lines()
    assert lines.feed(b'{"half":') == []
    lines.reset()
    assert lines.feed(b'{"a":1}\n') == [b'{"a":1}']


def test_empty_lines_are_nothing() -> None:
    assert wire.Lines().feed(b"\n \n\r\n{}\n\n") == [b"{}"]
