# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent that a tenant controls may send anything: it is read within bounds of time and memory,
then refused.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stockyard.clock import Deadline
from stockyard.errors import DeadlineExceeded, GuestError
from stockyard.providers.libvirt.channel import SocketChannel

Agent = Callable[[socket.socket, dict[str, Any]], None]
Call = Callable[[Agent, float], dict[str, Any]]
FIFTY_MB = 50 << 20


def say(sock: socket.socket, message: dict[str, Any]) -> None:
    sock.sendall(json.dumps(message).encode() + b"\n")


def flood(sock: socket.socket, start: bytes, filler: bytes) -> None:
    sock.sendall(start)
    for _number in range(FIFTY_MB // len(filler)):
        sock.sendall(filler)


@pytest.fixture
def call(tmp_path: Path) -> Iterator[Call]:
    """Ask one question of an agent that behaves as a test says."""
    path = str(tmp_path / "agent")
    server = socket.create_server(path, family=socket.AF_UNIX)
    threads: list[threading.Thread] = []

    def ask(agent: Agent, seconds: float) -> dict[str, Any]:
        def serve() -> None:
            peer, _address = server.accept()
            with peer, peer.makefile("rb") as lines:
                question = next(line for line in lines if line.strip())
                try:
                    agent(peer, json.loads(question))
                except OSError:
                    return

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        channel = SocketChannel(path, "host web-1", Deadline(5))
        try:
            return channel.request({"op": "hello"}, Deadline(seconds))
        finally:
            channel.close()

    yield ask
    for thread in threads:
        thread.join(10)
    server.close()


def test_an_answer_is_heard_among_others(call: Call) -> None:
    def agent(sock: socket.socket, question: dict[str, Any]) -> None:
        say(
            sock,
            {
                "id": question["id"] + 7,
                "ok": True,
                "said": "the domain with this uuid belongs to another object or owner",
            },
        )
        say(sock, {"id": question["id"], "ok": True, "said": "ü"})

    assert call(agent, 5)["said"] == "ü"


def test_late_answer_for_another_controller_is_ignored(call: Call) -> None:
    """Both asked only once; the one that was killed was not answered before."""
    requests: list[Any] = []

    def note(sock: socket.socket, question: dict[str, Any]) -> None:
        requests.append(question["id"])
        say(sock, {"id": requests[0], "ok": True, "said": "to the first"})
        say(sock, {"id": question["id"], "ok": True, "said": "to the second"})

    assert call(note, 5)["said"] == "to the first"
    assert call(note, 5)["said"] == "to the second"


HOSTILE: dict[str, Agent] = {
    "50 MB on one line": lambda sock, _q: flood(
        sock, b'{"id": 1, "ok": true, "said": "', b"A" * 65536
    ),
    "50 MB of braces": lambda sock, _q: flood(sock, b"", b"[" * 65536),
    "no UTF-8": lambda sock, _q: sock.sendall(b'{"id": 1, "ok": true, "said": "\xff\xfe\xc3"}\n'),
    "a lone surrogate": lambda sock, _q: sock.sendall(
        b'{"id": 1, "ok": true, "said": "\xed\xa0\x80"}\n'
    ),
    "no JSON": lambda sock, _q: sock.sendall(b"root@web-1:~# \n"),
    "a list": lambda sock, _q: sock.sendall(b"[1]\n"),
    "deep": lambda sock, _q: sock.sendall(b"[" * 60000 + b"\n"),
    "an error": lambda sock, q: say(sock, {"id": q["id"], "ok": False, "error": "no\nno" * 10000}),
    "no word of success": lambda sock, q: say(sock, {"id": q["id"], "ok": "true"}),
    "a hung-up line": lambda sock, _q: sock.shutdown(socket.SHUT_RDWR),
}


@pytest.mark.parametrize("garbage", HOSTILE)
def test_nonsense_is_refused_in_bounds(call: Call, garbage: str) -> None:
    tracemalloc.start()
    try:
        begin = time.monotonic()
        with pytest.raises(GuestError) as caught:
            call(HOSTILE[garbage], 20)
        assert time.monotonic() - begin < 10
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert "host web-1" in str(caught.value)
    assert len(str(caught.value)) < 1000


def silent(sock: socket.socket, _question: dict[str, Any]) -> None:
    sock.recv(1)


def trickle(sock: socket.socket, _question: dict[str, Any]) -> None:
    for _number in range(200):
        sock.sendall(b" ")
        time.sleep(0.02)


def chatter(sock: socket.socket, question: dict[str, Any]) -> None:
    """Send endless answers for another controller."""
    for _number in range(200):
        say(sock, {"id": question["id"] + 1, "ok": True})
        time.sleep(0.02)


@pytest.mark.parametrize("agent", [silent, trickle, chatter])
def test_silence_and_chatter_end_at_the_deadline(call: Call, agent: Agent) -> None:
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"hello within 0.5 s"):
        call(agent, 0.5)
    assert time.monotonic() - begin < 3
