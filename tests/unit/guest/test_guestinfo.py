# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's line on vSphere: each request is answered once, and what is spent is overwritten."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard.guest.agent import wire
from stockyard.guest.agent.guestinfo import (
    ANSWER,
    MAX_VALUE,
    REQUEST,
    SPENT,
    Guestinfo,
    pack,
    serve,
    unpack,
)


class Values:
    """The two values, in memory, and whether the machine was frozen."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.frozen: list[dict[str, str]] = []

    def get(self, name: str) -> str:
        return self.values.get(name, "")

    def set(self, name: str, value: str) -> None:
        self.values[name] = value

    def freeze(self) -> None:
        self.frozen.append(dict(self.values))


class Echo:
    """An agent that reports its requests, and the values at that time."""

    restart_due = False

    def __init__(self, values: Values, padding: int = 0) -> None:
        self.values = values
        self.padding = padding
        self.asked: list[bytes] = []
        self.seen: list[str] = []

    def answer(self, line: bytes) -> dict[str, Any]:
        self.asked.append(line)
        self.seen.append(self.values.get(REQUEST))
        return {"id": wire.decode(line).get("id"), "ok": True, "padding": "x" * self.padding}


@pytest.fixture
def values() -> Values:
    return Values()


def test_a_request_is_answered_once(values: Values) -> None:
    agent = Echo(values)
    line = Guestinfo(agent, values)
    assert not line.step()
    values.set(REQUEST, pack({"op": "hello", "id": "a1"}))
    assert line.step()
    assert unpack(values.get(ANSWER)) == {"id": "a1", "ok": True, "padding": ""}
    assert not line.step()
    values.set(REQUEST, pack({"op": "hello", "id": "a1"}))
    assert not line.step()
    values.set(REQUEST, pack({"op": "hello", "id": "a2"}))
    assert line.step()
    assert len(agent.asked) == 2


def test_request_is_overwritten_before_it_is_executed(values: Values) -> None:
    agent = Echo(values)
    values.set(REQUEST, pack({"op": "identify", "entropy": "c2VjcmV0", "id": "a1"}))
    Guestinfo(agent, values).step()
    assert agent.seen == [SPENT]


def test_freeze_is_answered_before_it_starts(values: Values) -> None:
    agent = Echo(values)
    line = Guestinfo(agent, values)
    values.set(REQUEST, pack({"op": "freeze", "id": "f"}))
    assert line.step()
    assert [unpack(then[ANSWER]) for then in values.frozen] == [{"id": "f", "ok": True}]
    assert agent.asked == []
    # In the clone: what froze it is not done again.
    assert not line.step()
    assert len(values.frozen) == 1


def test_an_answer_that_is_too_long_is_an_error(values: Values) -> None:
    values.set(REQUEST, pack({"op": "x", "id": "a1"}))
    Guestinfo(Echo(values, MAX_VALUE), values).step()
    answer = unpack(values.get(ANSWER))
    assert answer["id"] == "a1"
    assert answer["ok"] is False
    assert "over guestinfo's limit" in answer["error"]


def test_the_server_ends_when_the_process_must_be_replaced_and_not_before_its_answer(
    values: Values,
) -> None:
    agent = Echo(values)

    def answer(line: bytes) -> dict[str, Any]:
        agent.restart_due = wire.decode(line)["op"] == "settle"
        values.set(REQUEST, pack({"op": "settle", "id": "a2"}))
        return {"id": wire.decode(line)["id"], "ok": True}

    agent.answer = answer  # type: ignore[method-assign]
    values.set(REQUEST, pack({"op": "hello", "id": "a1"}))
    serve(agent, values)
    assert unpack(values.get(ANSWER)) == {"id": "a2", "ok": True}


@given(st.text(max_size=200))
def test_any_request_is_answered(text: str) -> None:
    values = Values()
    line = Guestinfo(Careful(), values)
    values.set(REQUEST, text)
    if line.step():
        assert unpack(values.get(ANSWER))["ok"] is False


class Careful:
    """The real agent's way with lines that are no messages."""

    restart_due = False

    def answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"id": wire.decode(line).get("id"), "ok": False, "error": "unknown operation"}
        except wire.WireError as error:
            return {"id": None, "ok": False, "error": str(error)}


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=50) | st.integers() | st.booleans()))
def test_guestinfo_message_is_equal_after_packing_and_unpacking(message: dict[str, Any]) -> None:
    assert unpack(pack(message)) == message
    assert pack(message).isascii()


def test_a_message_that_is_too_long_is_refused() -> None:
    with pytest.raises(wire.WireError, match="limit"):
        pack({"x": "y" * MAX_VALUE})
    with pytest.raises(wire.WireError, match="longer"):
        unpack("A" * (MAX_VALUE + 4))
