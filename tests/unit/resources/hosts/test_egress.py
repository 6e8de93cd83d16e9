# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's way to its proxy: what ssh is told, and what becomes of it. ssh itself is a
script here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import Conflict, HostSpec, HypervisorError, SingleSpec, TemplateSpec, Yard
from stockyard.clock import Deadline
from stockyard.model.host import HostRecord, Identity
from stockyard.model.network import USER_NETWORK
from stockyard.pki.store import Pki
from stockyard.providers.open import open_provider
from stockyard.resources.context import Context
from stockyard.resources.hosts import egress, host_lifecycle, identity
from tests.helpers.clocks import FakeClock
from tests.helpers.samples import HOST_KEY, host_record

PROXY = HostSpec(egress="proxy", egress_proxy="proxy.example.org:3128")
IDENTITY = Identity("0" * 32, HOST_KEY, "1", 1.0)
SSH = """#!/bin/sh
echo "$@" >> {log}
case " $* " in
*" -O check "*) test -e {up} ;;
*" -W "*) cat {there} ;;
*) cat {answer} >&2; test -e {works} && touch {up} ;;
esac
"""


@pytest.fixture
def record() -> HostRecord:
    return host_record(spec=PROXY, identity=IDENTITY, address="127.64.1.2")


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for ssh; the directory says whether it works, and what it heard."""
    folder = tmp_path / "ssh"
    folder.mkdir()
    program = folder / "ssh"
    program.write_text(
        SSH.format(**{name: folder / name for name in ("log", "up", "works", "answer", "there")})
    )
    program.chmod(0o755)
    (folder / "answer").touch()
    (folder / "there").touch()
    (folder / "works").touch()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.fixture
def context(tmp_path: Path, clock: FakeClock) -> Context:
    provider = open_provider(f"memory://{tmp_path}/hypervisor")
    provider.capabilities = replace(provider.capabilities, endpoints=True)
    return Context(
        provider, "stockyard", lambda tenant: Pki(tmp_path / "pki" / tenant, tenant), clock
    )


def test_a_tunnel_leads_to_the_proxy_and_does_nothing_else(record: HostRecord) -> None:
    line = egress.command(record, USER_NETWORK, Path("/key"), Path("/known"))
    assert line[line.index("-R") + 1] == "10.0.2.15:3128:proxy.example.org:3128"
    assert line[-1] == "stockyard@127.64.1.2"
    assert {"-N", "-T", "-f"} <= set(line)
    for option in (
        "StrictHostKeyChecking=yes",
        "IdentityAgent=none",
        "UpdateHostKeys=no",
        "ExitOnForwardFailure=yes",
    ):
        assert option in line


def test_a_tunnel_is_opened_once(
    context: Context, record: HostRecord, ssh: Path, clock: FakeClock
) -> None:
    deadline = Deadline(10, clock)
    assert egress.ensure(context, record, deadline)
    assert not egress.ensure(context, record, deadline)
    assert len([line for line in (ssh / "log").read_text().splitlines() if " -R " in line]) == 1


def test_one_that_is_lost_is_opened_again(
    context: Context, record: HostRecord, ssh: Path, clock: FakeClock
) -> None:
    egress.ensure(context, record, Deadline(10, clock))
    (ssh / "up").unlink()
    stale = context.pki("default").directory / "tunnels" / record.uuid
    stale.touch()
    assert egress.ensure(context, record, Deadline(10, clock))
    assert not stale.exists()


@pytest.mark.parametrize(
    "message", ["Permission denied (publickey).", "Host key verification failed.", "refused"]
)
def test_failed_tunnel_is_an_error(
    context: Context, record: HostRecord, ssh: Path, clock: FakeClock, message: str
) -> None:
    (ssh / "works").unlink()
    (ssh / "answer").write_text(message)
    with pytest.raises(HypervisorError, match="proxy") as caught:
        egress.ensure(context, record, Deadline(3, clock))
    assert message in caught.value.cause


def test_another_controllers_tunnel_is_as_good(
    context: Context, record: HostRecord, ssh: Path, clock: FakeClock
) -> None:
    (ssh / "works").unlink()
    (ssh / "answer").write_text("Error: remote port forwarding failed for listen port 3128")
    (ssh / "there").write_text("HTTP/1.1 400 Bad Request\r\n\r\n")
    assert egress.ensure(context, record, Deadline(3, clock))


@pytest.mark.parametrize("message", ["", "SSH-2.0-OpenSSH_9.2"])
def test_foreign_listener_is_not_taken_for_the_proxy(
    context: Context, record: HostRecord, ssh: Path, clock: FakeClock, message: str
) -> None:
    (ssh / "works").unlink()
    (ssh / "answer").write_text("Error: remote port forwarding failed for listen port 3128")
    (ssh / "there").write_text(message)
    with pytest.raises(HypervisorError, match="port 3128 of the guest is in use") as caught:
        egress.ensure(context, record, Deadline(3, clock))
    assert "3128" in str(caught.value)


@pytest.mark.parametrize("spec", [HostSpec(), HostSpec(network="lab", egress="open")])
def test_other_hosts_have_no_tunnel(context: Context, spec: HostSpec, clock: FakeClock) -> None:
    assert not egress.ensure(context, host_record(spec=spec, identity=IDENTITY), Deadline(3, clock))


def test_restricted_operator_key_opens_only_the_tunnel() -> None:
    key = "ssh-ed25519 AAAA me@home"
    declared = host_record(spec=replace(PROXY, authorized_keys=(key,)))
    first, second = egress.authorized_keys(declared, USER_NETWORK, "ssh-ed25519 BBBB operator")
    assert first == key
    assert second.startswith(
        'restrict,port-forwarding,permitlisten="10.0.2.15:3128",command="/bin/false" '
    )
    assert egress.authorized_keys(host_record(spec=PROXY), USER_NETWORK, "op") == ["op"]
    assert egress.authorized_keys(
        host_record(spec=HostSpec(authorized_keys=(key,))), USER_NETWORK, "op"
    ) == [key]


def test_only_a_guest_with_egress_proxy_has_a_proxy() -> None:
    proxied = egress.proxy_in_guest(host_record(spec=PROXY), USER_NETWORK)
    assert proxied == "http://10.0.2.15:3128"
    assert egress.proxy_in_guest(host_record(), USER_NETWORK) == ""


def test_a_port_that_a_host_of_the_yard_publishes_is_refused_in_check_mode_too(yard: Yard) -> None:
    bound = HostSpec(ports=(8080,), bind="127.0.0.1")
    yard.hosts.apply(SingleSpec("web", "base", host=bound))
    for check in (True, False):
        with pytest.raises(Conflict, match=r"8080.*host web publishes this port"):
            yard.hosts.apply(SingleSpec("other", "base", host=bound), check=check)
    assert yard.hosts.apply(
        SingleSpec("web", "base", host=replace(bound, engine_identity="unique"))
    ).changed


def test_the_memory_hypervisor_keeps_ports_apart_over_owners(
    uri: str, yard: Yard, tmp_path: Path
) -> None:
    bound = HostSpec(ports=(8080,), bind="127.0.0.1")
    yard.hosts.apply(SingleSpec("web", "base", host=bound))
    with Yard(uri, owner="other", pki_dir=str(tmp_path / "pki")) as other_yard:
        other_yard.templates.apply(TemplateSpec("base"))
        with pytest.raises(Conflict, match="8080"):
            other_yard.hosts.apply(SingleSpec("web", "base", host=bound))
        assert other_yard.hosts.list() == ()


def test_provider_opens_the_uplink_of_a_host_with_an_identity(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    @contextmanager
    def uplink(record: HostRecord, _deadline: Deadline) -> Iterator[Callable[[], bool]]:
        def connect() -> bool:
            opened.append(record.name)
            return True

        yield connect

    monkeypatch.setattr(context.provider, "uplink", uplink, raising=False)
    with_uplink = host_record(spec=HostSpec(egress="open"), identity=IDENTITY)
    assert egress.ensure(context, with_uplink, Deadline(5))
    assert not egress.ensure(context, replace(with_uplink, identity=None), Deadline(5))
    assert not egress.ensure(context, replace(with_uplink, spec=HostSpec()), Deadline(5))
    assert opened == [with_uplink.name]


def noted(events: list[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that first notes its call."""

    def call(*arguments: Any) -> Any:
        events.append(name)
        return function(*arguments)

    return call


def test_uplink_opens_while_the_host_starts_and_is_connected_last(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest reaches nothing before it has its own identity."""
    events: list[str] = []
    provider: Any = yard.context.provider

    @contextmanager
    def uplink(_record: HostRecord, _deadline: Deadline) -> Iterator[Callable[[], bool]]:
        events.append("begin")
        yield noted(events, "connect", lambda: True)
        events.append("end")

    monkeypatch.setattr(provider, "uplink", uplink, raising=False)
    monkeypatch.setattr(host_lifecycle, "identify", noted(events, "identity", identity.identify))
    monkeypatch.setattr(
        provider, "set_link", noted(events, "link", provider.set_link), raising=False
    )
    yard.hosts.apply(SingleSpec("web", "base", host=HostSpec(egress="open")))
    assert events[:5] == ["begin", "identity", "link", "connect", "end"]


def test_uplink_of_a_host_whose_start_fails_is_not_connected(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    @contextmanager
    def uplink(_record: HostRecord, _deadline: Deadline) -> Iterator[Callable[[], bool]]:
        try:
            yield noted(events, "connect", lambda: True)
        finally:
            events.append("end")

    def refuse(*_arguments: Any) -> None:
        raise HypervisorError("the machine of the host is not running.")

    provider: Any = yard.context.provider
    monkeypatch.setattr(provider, "uplink", uplink, raising=False)
    monkeypatch.setattr(provider, "set_link", refuse, raising=False)
    with pytest.raises(HypervisorError, match="not running"):
        yard.hosts.apply(SingleSpec("web", "base", host=HostSpec(egress="open")))
    assert events == ["end"]
    assert yard.hosts.list() == ()
