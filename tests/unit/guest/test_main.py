# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's loop: it answers everything, and lives on whatever arrives."""

from __future__ import annotations

import json
import os
import select
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockyard.guest.agent import main, wire
from stockyard.guest.agent.apply import Identity
from stockyard.providers.memory.guest import NoEffects


@pytest.fixture
def agent(tmp_path: Path) -> main.Agent:
    return main.Agent(Identity(str(tmp_path), NoEffects()))


def answer(agent: main.Agent, **message: Any) -> dict[str, Any]:
    return agent.answer(wire.encode(message))


HELLO = {"agent": main.AGENT, "uuid": "", "missing": []}


def test_an_answer_carries_the_number_of_its_question(agent: main.Agent) -> None:
    assert answer(agent, id=7, op="hello") == {"id": 7, "ok": True, **HELLO}


def test_hello_with_a_time_is_answered_with_the_clock(
    agent: main.Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 600.0)
    assert answer(agent, op="hello", time=1000.5)["ahead"] == -400.5
    assert answer(agent, op="set-clock", time=1000.5)["ok"]
    assert not answer(agent, op="set-clock")["ok"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"garbage",
        b"\xff",
        b"[]",
        b"{}",
        b'{"op": null}',
        b'{"op": {}}',
        b'{"op": "no-such"}',
        b"[" * 100_000,
        b'{"op": "identify"}',
        b'{"op": "renew-certificate"}',
        b'{"op": "warm-up"}',
        b'{"op": "warm-up", "timeout": "x"}',
    ],
)
def test_every_question_is_answered(agent: main.Agent, line: bytes) -> None:
    response = agent.answer(line)
    assert response["ok"] is False
    assert response["error"]
    assert wire.decode(wire.encode(response)) == response
    assert answer(agent, op="hello")["ok"]


def test_an_error_is_short(agent: main.Agent) -> None:
    assert len(answer(agent, op="x" * 100_000)["error"]) <= 2000


def test_error_is_written_to_the_console(
    agent: main.Agent, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(agent, op="no-such")
    assert "no-such" in capsys.readouterr().err


class Port:
    """The other end of the agent's port."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.lines = wire.Lines()

    def write(self, data: bytes) -> list[dict[str, Any]]:
        """Write all data; answers are read at the same time, because the channel would block."""
        received = []
        while data:
            readable, writable, _broken = select.select([self.handle], [self.handle], [], 20)
            assert readable or writable
            if readable:
                received += self.read()
            if writable:
                data = data[os.write(self.handle, data[:4096]) :]
        return received

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines.feed(os.read(self.handle, 65536))]

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a request, and wait for the answer with its number."""
        received, end = self.write(b"\n" + wire.encode(message)), time.monotonic() + 20
        while time.monotonic() < end:
            for line in received:
                if line["id"] == message["id"]:
                    return line
            received = self.read() if select.select([self.handle], [], [], 1)[0] else []
        raise TimeoutError


@pytest.fixture
def port(agent: main.Agent) -> Iterator[Port]:
    """A served port: a pseudo-terminal, which is as near to a virtio port as there is without a
    guest.
    """
    controller, guest = os.openpty()
    tty.setraw(guest)
    os.set_blocking(controller, False)
    handle = main.open_port(os.ttyname(guest))
    threading.Thread(target=main.serve, args=(agent, handle), daemon=True).start()
    yield Port(controller)
    # The thread sleeps on the other end for ever, as it should; its end of the terminal stays open
    # with it.
    os.close(guest)


def test_questions_are_answered_over_a_port(port: Port) -> None:
    for number in range(3):
        assert port.ask({"op": "hello", "id": number}) == {"id": number, "ok": True, **HELLO}


def test_a_flood_is_refused_and_the_next_question_answered(port: Port) -> None:
    responses = port.write(b"a" * (wire.MAX_LINE * 3))
    assert port.ask({"op": "hello", "id": 1})["ok"]
    assert all(not response["ok"] for response in responses)


def test_partial_request_is_ended_by_the_next_one(port: Port) -> None:
    port.write(b'{"op": "hel')
    assert port.ask({"op": "hello", "id": 5})["ok"]


def test_former_names_of_operations_are_answered_like_their_current_names(
    agent: main.Agent,
) -> None:
    for former, current in main.FORMER_NAMES.items():
        assert current in agent.operations
        assert former not in agent.operations
        assert answer(agent, op=former) == answer(agent, op=current)
    assert "unknown operation" not in answer(agent, op="admit")["error"]


def test_every_answer_contains_the_version_of_the_agent(agent: main.Agent) -> None:
    assert answer(agent, op="draw")["agent"] == main.AGENT
