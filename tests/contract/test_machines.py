# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines: fork, conversation with the agent, identity, deletion."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from stockyard.clock import Deadline
from stockyard.errors import (
    Conflict,
    GuestError,
    OperationRefused,
    StockyardError,
    Unsupported,
)
from stockyard.guest.agent.main import AGENT
from stockyard.guest.client import Guest
from stockyard.hypervisor.provider import Channel, Provider
from stockyard.model.host import HostRecord, HostSpec
from stockyard.resources.context import Context
from stockyard.resources.hosts.identity import identify
from tests.contract.bench import Bench
from tests.contract.conftest import Drafts, on_record, state_of


class Tapped:
    """A channel that keeps the answers."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.answers: list[dict[str, Any]] = []

    def request(self, message: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        self.answers.append(self.channel.request(message, deadline))
        return self.answers[-1]

    def close(self) -> None:
        self.channel.close()


def ask(
    provider: Provider, record: HostRecord, deadline: Deadline, **message: Any
) -> dict[str, Any]:
    """One question to the agent of a host."""
    channel = provider.channel(record, deadline)
    try:
        return channel.request(message, deadline)
    finally:
        channel.close()


def identified(
    context: Context, drafts: Drafts, deadline: Deadline
) -> tuple[HostRecord, dict[str, Any]]:
    """A host with an identity, and what its agent answered to that."""
    record = drafts.forked(deadline)
    channel = Tapped(context.provider.channel(record, deadline))
    with Guest(channel, record.title, deadline) as guest:
        identity = identify(context, record, guest)
        guest.settle()
    return replace(record, identity=identity), channel.answers[0]


def test_fork_runs_without_an_identity(
    provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    record = drafts.forked(deadline)
    assert state_of(provider, record) == "running"
    assert ask(provider, record, deadline, op="hello")["uuid"] == ""
    assert on_record(provider, record) == record


def test_host_that_passes_the_check_is_created(
    provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    """Nothing is changed by the check, though it has all that making the host needs."""
    # Other tests may build templates of the same owner at the same time.
    before = replace(provider.observe(drafts.template.owner), templates=(), names=frozenset())
    provider.check_host(HostSpec(), drafts.template, [], 2)
    after = replace(provider.observe(drafts.template.owner), templates=(), names=frozenset())
    assert after == before
    drafts.forked(deadline)


def test_an_agent_makes_a_fork_a_host_of_its_own(
    context: Context, provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    record, answer = identified(context, drafts, deadline)
    assert answer["mac"] == record.mac
    assert re.fullmatch(r"ssh-ed25519 [A-Za-z0-9+/]{68}", answer["ssh_host_key"])
    request = x509.load_pem_x509_csr(answer["csr"].encode())
    assert request.is_signature_valid
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert record.identity is not None
    assert record.identity.ssh_host_key == answer["ssh_host_key"]
    assert ask(provider, record, deadline, op="hello")["uuid"] == record.uuid


def test_no_secret_is_created_before_the_reseed(
    context: Context, drafts: Drafts, deadline: Deadline
) -> None:
    _record, answer = identified(context, drafts, deadline)
    order = answer["audit"]
    assert order[0] == "reseed"
    assert order.index("network") < order.index("ssh-key")
    assert {"reseed", "clock", "names", "network", "ssh-key", "tls-key"} <= set(order)


def test_two_forks_share_no_key(context: Context, drafts: Drafts, deadline: Deadline) -> None:
    (first, first_identity), (second, second_identity) = (
        identified(context, drafts, deadline) for _host in range(2)
    )
    assert first_identity["ssh_host_key"] != second_identity["ssh_host_key"]
    keys = [
        x509.load_pem_x509_csr(answer["csr"].encode()).public_key()
        for answer in (first_identity, second_identity)
    ]
    assert keys[0] != keys[1]
    assert first.identity is not None
    assert second.identity is not None
    assert first.identity.machine_id != second.identity.machine_id
    assert first.identity.certificate != second.identity.certificate


def test_agent_serves_after_a_refusal(
    provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    record = drafts.forked(deadline)
    channel = provider.channel(record, deadline)
    try:
        for message in (
            {"op": "no-such"},
            {"op": "identify"},
            {"op": "hello", "padding": "x" * 300_000},
            {},
        ):
            with pytest.raises(GuestError):
                channel.request(message, deadline)
        assert channel.request({"op": "hello"}, deadline)["agent"] == AGENT
    finally:
        channel.close()


def test_link_is_connected_and_disconnected(
    bench: Bench, provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    record = drafts.forked(deadline)
    assert bench.has_link(record) in (False, None)
    for up in (True, True, False):
        provider.set_link(record, up)
        assert bench.has_link(record) in (up, None)
    assert ask(provider, record, deadline, op="hello")["agent"] == AGENT


def test_published_ports_of_a_running_machine_are_replaced(
    provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    record = drafts.forked(deadline)
    try:
        changed = provider.publish(record, (18081, 18080), "127.9.9.9")
    except Unsupported:
        # A machine of vCenter has its own address.
        assert on_record(provider, record) == record
        return
    assert on_record(provider, record) == changed
    assert changed.published == {("127.9.9.9", 18080), ("127.9.9.9", 18081)}
    with pytest.raises(Conflict):
        provider.publish(record, (), "127.9.9.9")
    second = drafts.forked(deadline)
    with pytest.raises(Conflict, match="18080"):
        provider.publish(second, (18080, 18082), "127.9.9.9")
    assert on_record(provider, second) == second
    changed = provider.publish(changed, (18081,), "127.9.9.9")
    provider.publish(second, (18080,), "127.9.9.9")
    assert provider.publish(changed, (), "127.9.9.9").published == frozenset()
    assert ask(provider, record, deadline, op="hello")["agent"] == AGENT


def test_a_running_machine_is_not_forked_again(
    provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    record = drafts.forked(deadline)
    with pytest.raises(StockyardError, match=record.name):
        provider.fork(record, drafts.template, provider.capabilities.modes[0], deadline)
    assert ask(provider, record, deadline, op="hello")["agent"] == AGENT


def test_a_machine_that_is_off_does_not_answer(provider: Provider, drafts: Drafts) -> None:
    """It is told at once: there is nothing to wait for."""
    record = drafts.reserved()
    begin = time.monotonic()
    with pytest.raises(StockyardError, match=r"is not running|has no machine"):
        ask(provider, record, Deadline(60), op="hello")
    assert time.monotonic() - begin < 20
    with pytest.raises(StockyardError, match=record.name):
        provider.set_link(record, True)


def test_a_machine_that_is_killed_is_seen_and_stays_on_record(
    bench: Bench, provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    record = drafts.forked(deadline)
    channel = provider.channel(record, deadline)
    try:
        bench.kill(record)
        assert state_of(provider, record) in ("off", "crashed")
        assert on_record(provider, record) == record
        with pytest.raises(StockyardError, match=record.name):
            channel.request({"op": "hello"}, Deadline(2))
    finally:
        channel.close()


def test_paused_machine_is_reported_and_continues(
    bench: Bench, context: Context, provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    record, _answer = identified(context, drafts, deadline)
    bench.pause(record)
    # A machine of vCenter is not paused, but suspended.
    assert state_of(provider, record) in ("paused", "suspended")
    provider.start(record, deadline)
    assert state_of(provider, record) == "running"
    assert ask(provider, record, deadline, op="hello")["uuid"] == record.uuid


def test_suspended_machine_is_observed_and_resumed(
    context: Context, provider: Provider, second: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    record, _answer = identified(context, drafts, deadline)
    before = on_record(provider, record)
    assert before
    assert provider.capabilities.suspends
    provider.check_suspend([record])
    provider.suspend(record, deadline)
    assert state_of(second, record) == "suspended"
    assert on_record(second, record) == before
    provider.suspend(record, deadline)
    with pytest.raises(StockyardError, match=record.name):
        ask(provider, record, Deadline(2), op="hello")
    changed = second.claim(before, labels={"note": "kept"})
    assert on_record(provider, record) == changed
    second.check_start(changed)
    # A controller that died in between leaves a machine that runs.
    for _attempt in range(2):
        assert second.start(changed, deadline) == ""
        assert state_of(provider, record) == "running"
    assert on_record(provider, record) == changed
    assert ask(provider, record, deadline, op="hello")["uuid"] == record.uuid


def test_suspended_machine_is_destroyed(
    provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    record = drafts.forked(deadline)
    provider.suspend(record, deadline)
    provider.destroy(record)
    assert on_record(provider, record) is None


def test_machine_that_is_off_is_not_suspended(
    bench: Bench, provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    record = drafts.forked(deadline)
    bench.kill(record)
    provider.check_suspend([record])
    with pytest.raises(OperationRefused, match="only a running host"):
        provider.suspend(record, deadline)
    assert state_of(provider, record) != "suspended"


def test_running_machine_is_destroyed(
    provider: Provider, second: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    record = drafts.forked(deadline)
    provider.destroy(record)
    observation = second.observe(record.owner)
    assert record.uuid not in [h.record.uuid for h in observation.hosts]
    assert record.domain not in [s.name for s in observation.unreadable]
    assert record.address not in observation.addresses


def test_each_machine_has_facts(provider: Provider, drafts: Drafts) -> None:
    for record in (drafts.reserved(), drafts.template):
        assert provider.facts(record).storage
