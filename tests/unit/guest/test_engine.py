# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests of the agent to dockerd."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any

import pytest

from stockyard.guest.agent import engine, main, wire
from stockyard.guest.agent.apply import Identity
from stockyard.guest.agent.main import Agent
from stockyard.providers.memory.guest import NoEffects


class Dockerd(BaseHTTPRequestHandler):
    """Answers as dockerd: two containers run, and the second one cannot be paused.

    The directories of the guest that are in the first container are ``sources``.
    """

    requests: list[str]
    sources: tuple[str, ...] = ()

    def do_GET(self) -> None:
        mounts = [{"Type": "bind", "Source": source} for source in self.sources]
        mounts.append({"Type": "tmpfs"})
        self._answer(200, [{"Id": "a" * 64, "Mounts": mounts}, {"Id": "b" * 64}])

    def do_POST(self) -> None:
        fails = self.path.startswith(f"/containers/{'b' * 64}/pause")
        self._answer(500 if fails else 204, None)

    def _answer(self, status: int, body: Any) -> None:
        self.requests.append(f"{self.command} {self.path}")
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_arguments: object) -> None:
        return


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The requests that dockerd gets."""
    monkeypatch.setattr(Dockerd, "requests", [], raising=False)
    path = str(tmp_path / "docker.sock")
    monkeypatch.setattr(engine, "OWN_SOCKET", path)
    with UnixStreamServer(path, Dockerd) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield Dockerd.requests
        server.shutdown()
        thread.join()


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(Identity(str(tmp_path), NoEffects()))


def ask(agent: Agent, action: str) -> dict[str, Any]:
    return agent.answer(wire.encode({"id": 1, "op": "change-containers", "action": action}))


@pytest.mark.parametrize("action", ["restart", "stop"])
def test_all_running_containers_are_changed(agent: Agent, requests: list[str], action: str) -> None:
    assert ask(agent, action) == {"id": 1, "ok": True, "agent": main.AGENT, "changed": 2}
    assert requests[0].startswith("GET /containers/json?filters=")
    assert "running" in requests[0]
    assert requests[1:] == [
        f"POST /containers/{letter * 64}/{action}?t={engine.GRACE}" for letter in "ab"
    ]


def test_a_container_that_dockerd_does_not_change_is_an_error(
    agent: Agent, requests: list[str]
) -> None:
    answer = ask(agent, "pause")
    assert not answer["ok"]
    assert "answered 500" in answer["error"]


def test_an_unknown_action_is_an_error(agent: Agent, requests: list[str]) -> None:
    assert not ask(agent, "kill")["ok"]
    assert requests == []


@pytest.mark.parametrize(
    ("sources", "stopped"),
    [
        (("/srv/data",), True),
        (("/other", "/srv/data/db"), True),
        (("/srv",), True),
        (("/",), True),
        (("/srv/data-2", "/sr", "/other/srv/data"), False),
        ((), False),
    ],
)
def test_containers_with_a_directory_on_the_way_to_a_volume_are_stopped(
    requests: list[str],
    monkeypatch: pytest.MonkeyPatch,
    sources: tuple[str, ...],
    stopped: bool,
) -> None:
    monkeypatch.setattr(Dockerd, "sources", sources)
    assert engine.stop_users("/srv/data") == {"changed": int(stopped)}
    posts = [request for request in requests if request.startswith("POST")]
    assert posts == [f"POST /containers/{'a' * 64}/stop?t=3"] * stopped


def test_without_dockerd_no_container_uses_a_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OWN_SOCKET", "SOCKET"):
        monkeypatch.setattr(engine, name, str(tmp_path / "no-socket"))
    assert engine.stop_users("/data") == {"changed": 0}
