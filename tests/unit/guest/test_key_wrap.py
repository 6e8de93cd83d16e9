# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key of a volume on its way: only the agent that offered a key pair can read it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from stockyard.guest.agent import disks, main, wire
from stockyard.guest.agent.apply import Identity
from stockyard.guest.agent.disks import LinuxDisks
from stockyard.guest.agent.key_wrap import KeyExchange, wrap
from stockyard.guest.agent.volumes import Volumes
from stockyard.providers.memory.guest import NoEffects
from stockyard.providers.memory.volumes import FolderDisks

KEY = "5e" * 32


@pytest.fixture
def agent(tmp_path: Path) -> main.Agent:
    volumes = Volumes(str(tmp_path), FolderDisks(tmp_path, dict))
    return main.Agent(Identity(str(tmp_path), NoEffects()), volumes)


def ask(agent: main.Agent, **message: Any) -> dict[str, Any]:
    return agent.answer(wire.encode(message))


def test_only_the_key_pair_that_a_key_was_wrapped_for_unwraps_it() -> None:
    exchange = KeyExchange()
    wrapped = wrap(KEY, exchange.public_key)
    assert exchange.unwrap(wrapped) == KEY
    assert KEY not in wrapped
    assert wrap(KEY, exchange.public_key) != wrapped
    with pytest.raises(ValueError, match="not wrapped for this agent"):
        KeyExchange().unwrap(wrapped)


@pytest.mark.parametrize("position", [0, 31, 32, -1])
def test_a_changed_key_is_refused(position: int) -> None:
    exchange = KeyExchange()
    data = bytearray(base64.b64decode(wrap(KEY, exchange.public_key)))
    data[position] ^= 1
    with pytest.raises(ValueError, match="not wrapped"):
        exchange.unwrap(base64.b64encode(data).decode())


@pytest.mark.parametrize("wrapped", ["", "no base64", "AA==", base64.b64encode(bytes(80)).decode()])
def test_a_malformed_key_is_refused(wrapped: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        KeyExchange().unwrap(wrapped)


def test_the_worker_is_replaced_after_a_request_with_a_key_also_if_it_failed(
    agent: main.Agent,
) -> None:
    public_key = ask(agent, op="key-exchange")["public_key"]
    assert not agent.restart_due
    reply = ask(agent, op="volume-mount", wrapped_key=wrap(KEY, public_key))
    assert "KeyError: 'serial'" in reply["error"]
    assert agent.restart_due


def test_a_key_without_an_exchange_is_refused(agent: main.Agent) -> None:
    wrapped = wrap(KEY, KeyExchange().public_key)
    assert "run again" in ask(agent, op="volume-mount", wrapped_key=wrapped)["error"]


def test_keys_remain_until_the_next_boot_unless_the_kernel_zeroes_freed_memory(
    agent: main.Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeroes = [False]
    monkeypatch.setattr(agent.volumes.disks, "zeroes_freed_memory", lambda: zeroes[0])
    assert "keys_remain" not in ask(agent, op="hello")
    public_key = ask(agent, op="key-exchange")["public_key"]
    ask(agent, op="volume-mount", wrapped_key=wrap(KEY, public_key))
    assert ask(agent, op="hello")["keys_remain"] is True
    zeroes[0] = True
    assert "keys_remain" not in ask(agent, op="hello")


@pytest.mark.parametrize(
    ("options", "expected"),
    [("rw init_on_free=1 quiet", True), ("rw init_on_free=0", False), ("rw", False)],
)
def test_command_line_of_the_kernel_says_if_it_zeroes_freed_memory(
    options: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cmdline"
    path.write_text(f"{options}\n")
    monkeypatch.setattr(disks, "COMMAND_LINE", str(path))
    assert LinuxDisks().zeroes_freed_memory() is expected
