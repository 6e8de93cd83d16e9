# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The typed client: it sends the names that an agent knows, and accepts no malformed reply."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stockyard.clock import Deadline
from stockyard.errors import GuestError, Unsupported
from stockyard.guest.agent import key_wrap, main, wire
from stockyard.guest.agent.apply import Identity
from stockyard.guest.client import Guest, IdentityRequest, ServerCertificate
from stockyard.guest.operations import NEEDED, OPERATIONS, RENAMED
from stockyard.model.network import USER_NETWORK
from stockyard.providers.memory.guest import NoEffects
from tests.helpers.older_agents import agent_of_version_4

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG5PyObBkKWPqZLiQHfJ8gdhiGJmJUNt8WluiUp+fbmL"
SECRET = "5ec2e7" * 8
IDENTITY = IdentityRequest(
    entropy="",
    time=1.0,
    uuid="u",
    hostname="web-1",
    machine_id="m" * 32,
    network=USER_NETWORK,
    mac="52:54:00:00:00:01",
    authorized_keys=(KEY,),
    engine_identity="shared",
)
CERTIFICATE = ServerCertificate("CA", "CERTIFICATE", "CRL")
# Every operation of the client that agents with a version answer.
CALLS: dict[str, Callable[[Guest], object]] = {
    "hello": lambda guest: guest.hello(),
    "draw": lambda guest: guest.draw(),
    "prepare": lambda guest: guest.prepare(docker=True),
    "enable-ssh": lambda guest: guest.enable_ssh(USER_NETWORK, "m", (KEY,)),
    "disable-ssh": lambda guest: guest.disable_ssh(USER_NETWORK, "m", "user"),
    "warm-up": lambda guest: guest.warm_up(docker=True, sparse=False),
    "freeze": lambda guest: guest.freeze(),
    "identify": lambda guest: guest.identify(IDENTITY),
    "renew-certificate": lambda guest: guest.renew_certificate(CERTIFICATE),
    "settle": lambda guest: guest.settle(),
    "csr": lambda guest: guest.csr(),
    "volume-probe": lambda guest: guest.volume_probe("s"),
    "volume-create": lambda guest: guest.volume_create("s", "u"),
    "volume-mount": lambda guest: guest.volume_mount("s", "/data"),
    "volume-unmount": lambda guest: guest.volume_unmount("/data"),
    "volume-drop": lambda guest: guest.volume_drop("/data"),
    "key-exchange": lambda guest: guest.key_exchange(),
    "open": lambda guest: guest.open(),
    "refresh-limits": lambda guest: guest.refresh_limits(1024),
    "set-clock": lambda guest: guest.set_clock(1.0),
    "reseed": lambda guest: guest.reseed("AA=="),
    "unit-failures": lambda guest: guest.unit_failures(),
    "docker-probe": lambda guest: guest.docker_probe(),
    "change-containers": lambda guest: guest.change_containers("pause"),
    "discard-identity": lambda guest: guest.discard_identity("AA==", "user"),
    "scrub": lambda guest: guest.scrub(
        USER_NETWORK, "m", entropy="AA==", machine_id="0" * 32, user="user"
    ),
}
EXCHANGE = key_wrap.KeyExchange()
REPLIES: dict[str, dict[str, Any]] = {
    "key-exchange": {"public_key": EXCHANGE.public_key},
    "hello": {"uuid": "u", "missing": ["/data"], "ahead": -1.5},
    "draw": {"kernel": "00"},
    "enable-ssh": {"ssh_host_key": KEY},
    "identify": {"ssh_host_key": KEY, "csr": "PEM\n", "mac": "m", "audit": ["reseed"]},
    "csr": {"csr": "PEM\n"},
    "volume-probe": {"content": "blank"},
    "volume-mount": {"grown": True},
    "unit-failures": {"failures": ["docker.service failed: no"]},
    "docker-probe": {"answers": True, "cause": ""},
}


class ScriptedChannel:
    """Channel to an agent of one version, which answers from a table."""

    def __init__(self, version: int = main.AGENT, **changes: Any) -> None:
        self.version = version
        self.changes = changes
        self.messages: list[dict[str, Any]] = []
        self.closed = False

    def request(self, message: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        self.messages.append(message)
        name = main.FORMER_NAMES.get(message["op"], message["op"])
        reply = {"ok": True, "id": 1, **REPLIES.get(name, {}), **self.changes}
        if name == "hello" or self.version >= RENAMED:
            reply.setdefault("agent", self.version)
        return reply

    def close(self) -> None:
        self.closed = True

    @property
    def names(self) -> list[str]:
        return [message["op"] for message in self.messages]


def client(channel: Any, version: int = 0) -> Guest:
    return Guest(channel, "host web-1", Deadline(5), version=version)


def test_each_operation_of_the_table_has_a_method() -> None:
    assert CALLS.keys() == OPERATIONS.keys()


def test_client_and_agent_know_the_same_operations_and_former_names(tmp_path: Path) -> None:
    agent = main.Agent(Identity(str(tmp_path), NoEffects()))
    # The agent's channel on vSphere answers freeze.
    assert agent.operations.keys() | {"freeze"} == OPERATIONS.keys()
    former = {o.former_name: o.name for o in OPERATIONS.values() if o.former_name}
    assert former == main.FORMER_NAMES
    assert max(RENAMED, *NEEDED.values()) <= main.AGENT


@pytest.mark.parametrize("name", OPERATIONS)
def test_current_agent_gets_the_current_name(name: str) -> None:
    channel = ScriptedChannel()
    CALLS[name](client(channel, main.AGENT))
    assert channel.names == [name]


@pytest.mark.parametrize("name", OPERATIONS)
def test_agent_of_version_4_gets_its_own_operation_names(name: str, tmp_path: Path) -> None:
    channel = ScriptedChannel(4)
    guest = client(channel)
    guest.hello()
    if OPERATIONS[name].since > 4:
        needed = rf"has version 4, and version {OPERATIONS[name].since} is required"
        with pytest.raises(Unsupported, match=needed):
            CALLS[name](guest)
        return
    CALLS[name](guest)
    older = agent_of_version_4("main").Agent(
        agent_of_version_4("apply").Identity(str(tmp_path), NoEffects())
    )
    for sent in set(channel.names) - {"freeze"}:
        assert "unknown operation" not in str(older.answer(wire.encode({"op": sent})))


def test_version_is_taken_from_any_reply() -> None:
    channel = ScriptedChannel()
    guest = client(channel)
    guest.identify(IDENTITY)
    guest.renew_certificate(CERTIFICATE)
    assert channel.names == ["identify", "renew-certificate"]


def test_agent_without_a_version_in_its_replies_is_asked_once() -> None:
    channel = ScriptedChannel(5)
    guest = client(channel)
    guest.identify(IDENTITY)
    guest.renew_certificate(CERTIFICATE)
    guest.within(Deadline(1)).volume_probe("s")
    assert channel.names == ["identify", "hello", "admit", "volume-look"]


@pytest.mark.parametrize(("purpose", "version"), NEEDED.items())
def test_purpose_is_refused_below_its_version(purpose: str, version: int) -> None:
    client(ScriptedChannel(version)).require(purpose)
    if version > 1:
        with pytest.raises(Unsupported, match=f"too old for {purpose}") as caught:
            client(ScriptedChannel(version - 1)).require(purpose)
        assert "rebuild the template" in caught.value.remedy
        assert caught.value.name == "host web-1"


def test_key_is_sent_only_to_an_agent_that_encrypts() -> None:
    channel = ScriptedChannel(3)
    with pytest.raises(Unsupported, match="encrypted volumes"):
        client(channel).volume_mount("s", "/data", key=SECRET)
    assert SECRET not in str(channel.messages)


def test_key_is_wrapped_for_the_agent() -> None:
    channel = ScriptedChannel()
    client(channel).volume_mount("s", "/data", key=SECRET)
    assert channel.names == ["hello", "key-exchange", "volume-mount"]
    assert SECRET not in str(channel.messages)
    assert EXCHANGE.unwrap(channel.messages[-1]["wrapped_key"]) == SECRET


def test_key_is_sent_in_clear_to_an_agent_that_knows_nothing_else() -> None:
    channel = ScriptedChannel(9)
    client(channel).volume_mount("s", "/data", key=SECRET)
    assert channel.messages[-1]["key"] == SECRET


@pytest.mark.parametrize("public_key", ["", "no base64", "AA==", "A" * 43 + "="])
def test_key_is_sent_to_no_malformed_public_key(public_key: str) -> None:
    channel = ScriptedChannel(public_key=public_key)
    with pytest.raises(GuestError, match="no usable answer to key-exchange"):
        client(channel).volume_mount("s", "/data", key=SECRET)
    assert channel.names == ["hello", "key-exchange"]


def test_with_block_closes_the_channel_after_an_error() -> None:
    channel = ScriptedChannel()
    with pytest.raises(RuntimeError), client(channel):
        raise RuntimeError
    assert channel.closed


def test_error_that_repeats_the_key_is_replaced() -> None:
    class Echo(ScriptedChannel):
        def request(self, message: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
            if message["op"] == "hello":
                return super().request(message, deadline)
            raise GuestError("could not.", name="host x", cause=f"ValueError: {message['key']}")

    with pytest.raises(GuestError) as caught:
        client(Echo(9)).volume_mount("s", "/data", key=SECRET)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


def test_replies_become_values() -> None:
    guest = client(ScriptedChannel())
    hello = guest.hello(1.0)
    assert (hello.agent, hello.uuid) == (main.AGENT, "u")
    assert (hello.missing, hello.ahead) == (("/data",), -1.5)
    assert guest.draw().by_source == {"kernel": "00"}
    assert guest.identify(IDENTITY).audit == ("reseed",)
    assert guest.volume_mount("s", "/data").grown
    assert guest.unit_failures().lines == ("docker.service failed: no",)
    assert guest.docker_probe().answers


def replaced(name: str, field: str, *values: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(name, {field: value}) for value in values]


# For each operation, fields that replace those of a valid reply.
MALFORMED: list[tuple[str, dict[str, Any]]] = [
    *replaced("hello", "agent", None, "6", True, -1, 0, 1.5, 1 << 40),
    *replaced("hello", "uuid", None, 1, ["u"], "u" * 65, "a\nb", "\x1b[2J"),
    *replaced("hello", "missing", None, "x", {}, [1], [None]),
    *replaced("hello", "ahead", None, "1", True, [], float("nan"), float("inf")),
    *replaced("draw", "kernel", None, 1, "\n", "0" * 2000),
    ("draw", {f"source{number}": "00" for number in range(20)}),
    ("draw", {"\x1b": "00"}),
    *replaced("enable-ssh", "ssh_host_key", None, "x", KEY + "\n", [KEY]),
    *replaced("identify", "ssh_host_key", None, "x", KEY + "\n", [KEY]),
    *replaced("identify", "mac", None, 1, "5" * 65, "a\nb"),
    *replaced("identify", "csr", None, ["x"], "x" * 20_000),
    *replaced("identify", "audit", None, "x", [1], ["x"] * 100),
    *replaced("csr", "csr", None, ["x"], "x" * 20_000),
    *replaced("volume-probe", "content", None, 1, "x" * 65, "a\rb"),
    *replaced("hello", "keys_remain", None, 1, "yes"),
    *replaced("key-exchange", "public_key", None, 1, "x" * 65, "a\nb"),
    *replaced("volume-mount", "grown", None, 1, "yes"),
    *replaced("unit-failures", "failures", None, "x", [1], [["x"]]),
    *replaced("docker-probe", "answers", None, 1, "true"),
    ("docker-probe", {"cause": 5}),
]


@pytest.mark.parametrize(("name", "changes"), MALFORMED)
def test_malformed_reply_is_an_error_of_the_guest(name: str, changes: dict[str, Any]) -> None:
    with pytest.raises(GuestError) as caught:
        CALLS[name](client(ScriptedChannel(**changes)))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    assert "host web-1" in str(caught.value)


@pytest.mark.parametrize("name", sorted(REPLIES))
def test_empty_reply_is_refused_if_a_value_is_needed(name: str) -> None:
    class Empty(ScriptedChannel):
        def request(self, message: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
            return {"ok": True}

    guest = client(Empty(), main.AGENT)
    if name in ("draw", "volume-mount"):
        assert CALLS[name](guest)
        return
    with pytest.raises(GuestError, match=rf"host web-1: .*({name}|no usable SSH host key)"):
        CALLS[name](guest)


def test_text_of_a_guest_is_one_printable_line() -> None:
    changes: dict[str, Any] = {"failures": ["a\x1b[2J\nb"] * 30, "missing": ["/\x07\n"] * 30}
    guest = client(ScriptedChannel(**changes))
    assert len(guest.unit_failures().lines) == 20
    assert len(guest.hello().missing) == 16
    for line in (*guest.unit_failures().lines, *guest.hello().missing):
        assert line.isprintable()


def test_former_requests_are_overwritten_in_each_buffer_of_the_port() -> None:
    channel = ScriptedChannel()
    client(channel, main.AGENT).overwrite_requests()
    page, ring = 4096, [0] * 128
    position = 0
    for message in channel.messages:
        size = len(b"\n" + wire.encode({**message, "id": 1 << 47}))
        for _buffer in range(size // page):
            ring[position % len(ring)] += 1
            position += 1
        # The end of the message, with which the content of its buffer stays.
        position += 1
    assert min(ring) >= 2
