# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity of a parent, which a fork of a branch discards before it gets its own."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import tty
from pathlib import Path
from typing import Any

import pytest

from stockyard.guest.agent import effects, main, units, wire
from stockyard.guest.agent.apply import OPEN_FLAG, Identity
from stockyard.guest.agent.main import Agent
from stockyard.providers.memory.guest import NoEffects

NETWORK = {
    "interface": "eth0",
    "mac": "52:54:00:00:00:01",
    "address": "10.0.2.15",
    "netmask": "255.255.255.0",
    "gateway": "",
    "nameserver": "",
}
ENTROPY = base64.b64encode(bytes(64)).decode()
IDENTIFY = {
    "op": "identify",
    "entropy": ENTROPY,
    "time": 1.0,
    "uuid": "parent",
    "hostname": "parent",
    "machine_id": "0" * 32,
    "network": NETWORK,
    "authorized_keys": ["key one"],
}
CERTIFICATES = {"op": "renew-certificate", "ca": "ca", "crl": "crl", "certificate": "cert"}
DISCARD = {
    "op": "discard-identity",
    "entropy": ENTROPY,
    "user": "stockyard",
    "network": NETWORK,
}


class Recorder(NoEffects):
    """Records the effects in their order, and whether the keys of the parent existed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.effects: list[str] = []
        self.ssh_open = True

    def reseed(self, entropy: bytes) -> None:
        self.effects.append("reseed")

    def prioritize(self, on: bool) -> None:
        self.effects.append("prioritize" if on else "normal priority")

    def replace_front(self) -> None:
        assert not (self.root / OPEN_FLAG).exists(), "the new front would not wait"
        self.effects.append("replace front")

    def kill_logins(self, user: str) -> None:
        assert not (self.root / "etc/ssh/ssh_host_ed25519_key").exists(), "sshd would use it again"
        self.effects.append(f"kill logins of {user}")

    def accepts_ssh(self) -> bool:
        return self.ssh_open

    def wait_for_ssh(self) -> None:
        self.effects.append("wait for SSH")
        if not self.ssh_open:
            raise RuntimeError("no program listens on port 22")

    def take_down(self, interface: str) -> None:
        self.effects.append(f"{interface} down")

    def open_gate(self) -> None:
        self.effects.append("open gate")

    def reload_front(self, cut: bool) -> None:
        self.effects.append("reload front")


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


@pytest.fixture
def agent(tmp_path: Path, recorder: Recorder) -> Agent:
    """The agent of a host with an identity, as a fork of its branch finds it."""
    agent = Agent(Identity(str(tmp_path), recorder))
    for request in (IDENTIFY, CERTIFICATES):
        assert ask(agent, **request)["ok"]
    recorder.effects.clear()
    return agent


def ask(agent: Agent, **request: Any) -> dict[str, Any]:
    return agent.answer(wire.encode({"id": 1, **request}))


def private_keys(root: Path) -> list[str]:
    return [
        path.read_text()
        for path in (root / "var/lib/stockyard/tls/key.pem", root / "etc/ssh/ssh_host_ed25519_key")
        if path.exists()
    ]


def test_no_key_and_no_door_of_the_parent_is_left(
    tmp_path: Path, agent: Agent, recorder: Recorder
) -> None:
    keys = private_keys(tmp_path)
    assert len(keys) == 2
    assert ask(agent, **DISCARD)["ok"]
    assert recorder.effects == [
        "reseed",
        "prioritize",
        "kill logins of stockyard",
        "replace front",
    ]
    texts = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(key in text for key in keys for text in texts)
    assert not (tmp_path / "etc/ssh/stockyard_authorized_keys").exists()
    assert ask(agent, op="hello")["uuid"] == ""


def test_a_fork_gets_its_identity_as_from_a_template(
    tmp_path: Path, agent: Agent, recorder: Recorder
) -> None:
    keys = private_keys(tmp_path)
    ask(agent, **DISCARD)
    assert ask(agent, **{**IDENTIFY, "uuid": "child"})["ok"]
    assert not (tmp_path / OPEN_FLAG).exists()
    ask(agent, **CERTIFICATES)
    assert recorder.effects[-1] == "open gate"
    assert "reload front" not in recorder.effects
    assert ask(agent, op="hello")["uuid"] == "child"
    assert not set(keys) & set(private_keys(tmp_path))


def test_a_child_does_not_settle_until_it_accepts_ssh_as_its_parent_did(
    agent: Agent, recorder: Recorder
) -> None:
    ask(agent, **DISCARD)
    assert ask(agent, op="settle")["ok"]
    assert recorder.effects[-1] == "wait for SSH"
    ask(agent, **DISCARD)
    recorder.ssh_open = False
    reply = ask(agent, op="settle")
    assert "no program listens on port 22" in reply["error"]


@pytest.mark.parametrize("discarded", [True, False])
def test_a_host_without_ssh_settles(agent: Agent, recorder: Recorder, discarded: bool) -> None:
    """Neither a child whose parent accepted no SSH waits, nor a fork of a template."""
    recorder.ssh_open = not discarded
    if discarded:
        ask(agent, **DISCARD)
    assert ask(agent, op="settle")["ok"]
    assert "wait for SSH" not in recorder.effects


def test_a_host_accepts_ssh_while_a_program_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    linux = effects.LinuxEffects()
    monkeypatch.setattr(effects, "SSH_PATIENCE", 0.0)
    monkeypatch.setattr(units, "last_words", lambda unit: f"{unit} was given up")
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as server:
            server.bind((address, 0))
            monkeypatch.setattr(effects, "SSH_PORT", f":{server.getsockname()[1]:04X}")
            assert not linux.accepts_ssh()
            server.listen()
            assert linux.accepts_ssh()
            linux.wait_for_ssh()
        assert not linux.accepts_ssh()
        with pytest.raises(RuntimeError, match=r"port 22: ssh.service was given up"):
            linux.wait_for_ssh()


def test_a_host_can_discard_twice(agent: Agent) -> None:
    assert ask(agent, **DISCARD)["ok"]
    assert ask(agent, **DISCARD)["ok"]


def test_the_worker_is_replaced_once_the_child_has_its_identity(agent: Agent) -> None:
    for request in (CERTIFICATES, {"op": "settle", "restart_agent": True}, DISCARD, IDENTIFY):
        assert ask(agent, **request)["ok"]
        assert not agent.restart_due
    assert not ask(agent, op="renew-certificate")["ok"]
    assert not agent.restart_due
    assert ask(agent, **CERTIFICATES)["ok"]
    assert agent.restart_due


def test_the_worker_is_replaced_once_it_has_scrubbed_a_host(agent: Agent) -> None:
    assert not ask(agent, op="scrub")["ok"]
    assert not agent.restart_due
    assert ask(agent, **{**DISCARD, "op": "scrub", "machine_id": "f" * 32})["ok"]
    assert agent.restart_due


def test_another_worker_settles_when_the_child_accepts_ssh(
    tmp_path: Path, agent: Agent, recorder: Recorder
) -> None:
    ask(agent, **DISCARD)
    new_agent = Agent(Identity(str(tmp_path), recorder))
    assert ask(new_agent, op="settle")["ok"]
    assert recorder.effects[-1] == "wait for SSH"
    recorder.effects.clear()
    assert ask(new_agent, op="settle")["ok"]
    assert "wait for SSH" not in recorder.effects


def test_a_worker_ends_after_the_answer_that_makes_it_due(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[bool] = []
    ask(agent, **DISCARD)
    chunks = [wire.encode({"id": 1, **CERTIFICATES})]
    monkeypatch.setattr(os, "read", lambda _handle, _count: chunks.pop(0))
    monkeypatch.setattr(main, "_send", lambda _handle, message: answers.append(message["ok"]))
    main._drain(agent, 0, wire.Lines())
    assert answers == [True]


PROGRAM = """
import os, sys
from stockyard.guest.agent import main

class Agent:
    restart_due = False

    def answer(self, line):
        request = main.wire.decode(line)
        if request["op"] == "fail":
            os._exit(1)
        self.restart_due = request["op"] == "settle"
        return {"pid": os.getpid(), "parent": os.getppid()}

    def resume(self):
        print("restored by", os.getpid(), flush=True)

main.PORT = sys.argv[1]
main.new_agent = Agent
main.main()
"""


def test_another_worker_of_the_same_supervisor_answers_the_next_request() -> None:
    """The port stays open when a worker ends."""
    controller, guest = os.openpty()
    tty.setraw(guest)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, os.ttyname(guest)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process, os.fdopen(controller, "r+b", buffering=0) as port:

        def request(operation: str) -> dict[str, int]:
            port.write(wire.encode({"op": operation}))
            reply: dict[str, int] = json.loads(port.readline())
            return reply

        first = request("hello")
        # The terminal hangs up from now on if no process of the agent has it open.
        os.close(guest)
        assert request("settle") == first
        second = request("hello")
        port.write(wire.encode({"op": "fail"}))
        # A worker that fails ends the agent, which systemd starts again.
        assert process.wait(60) == 1
        assert process.stdout is not None
        restored = process.stdout.read().split()
    assert first["parent"] == second["parent"] == process.pid
    assert len({first["pid"], second["pid"], int(restored.pop())}) == 3
    assert restored == ["restored", "by"]


def test_uplink_of_the_parent_is_taken_down(tmp_path: Path, recorder: Recorder) -> None:
    uplink = {**NETWORK, "interface": "eth1"}
    agent = Agent(Identity(str(tmp_path), recorder))
    for request in ({**IDENTIFY, "network": {**NETWORK, "uplink": uplink}}, CERTIFICATES, DISCARD):
        assert ask(agent, **request)["ok"]
    assert "eth1 down" in recorder.effects
    recorder.effects.clear()
    for request in (IDENTIFY, CERTIFICATES, DISCARD):
        assert ask(agent, **request)["ok"]
    assert "eth1 down" not in recorder.effects
