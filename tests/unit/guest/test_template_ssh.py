# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH logins in a template: enabled for a playbook, and disabled without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stockyard.guest.agent import wire
from stockyard.guest.agent.apply import Identity
from stockyard.guest.agent.main import Agent
from stockyard.providers.memory.guest import NoEffects

NETWORK = {
    "interface": "eth0",
    "mac": "m",
    "address": "10.0.2.15",
    "netmask": "255.255.255.0",
    "gateway": "",
}
ENABLE = {"op": "enable-ssh", "network": NETWORK, "authorized_keys": ["key one"]}
DISABLE = {"op": "disable-ssh", "network": NETWORK, "user": "stockyard"}


class Watched(NoEffects):
    """Notes whose sessions were ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []

    def end_sessions(self, user: str, interface: str) -> None:
        self.ended.append((user, interface))


@pytest.fixture
def effects() -> Watched:
    return Watched()


def ask(root: Path, effects: Watched, **request: Any) -> dict[str, Any]:
    return Agent(Identity(str(root), effects)).answer(wire.encode({"id": 1, **request}))


def test_enabled_ssh_has_a_host_key_and_the_authorized_keys(
    tmp_path: Path, effects: Watched
) -> None:
    answer = ask(tmp_path, effects, **ENABLE)
    assert answer["ok"]
    assert answer["ssh_host_key"].startswith("ssh-ed25519 ")
    assert (tmp_path / "etc/ssh/stockyard_authorized_keys").read_text() == "key one\n"
    assert (tmp_path / "etc/ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600


def test_disabled_ssh_leaves_no_file(tmp_path: Path, effects: Watched) -> None:
    (tmp_path / "home/stockyard/.ansible/tmp").mkdir(parents=True)
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    ask(tmp_path, effects, **ENABLE)
    assert {p for p in tmp_path.rglob("*") if p.is_file()} > before
    assert ask(tmp_path, effects, **DISABLE)["ok"]
    assert effects.ended == [("stockyard", "eth0")]
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == before
    assert not (tmp_path / "home/stockyard/.ansible").exists()
    assert ask(tmp_path, effects, **DISABLE)["ok"]


def test_failed_end_of_a_session_is_an_error(tmp_path: Path, effects: Watched) -> None:
    def fail(user: str, interface: str) -> None:
        raise OSError("no systemd")

    effects.end_sessions = fail  # type: ignore[method-assign]
    ask(tmp_path, effects, **ENABLE)
    assert "no systemd" in ask(tmp_path, effects, **DISABLE)["error"]
