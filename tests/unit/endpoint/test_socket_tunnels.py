# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tunnels of the socket of an endpoint. ssh itself is a script here."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from stockyard import HypervisorError
from stockyard.clock import Deadline
from stockyard.endpoint.socket_tunnels import GUEST_SOCKET, SocketTunnels
from stockyard.errors import MissingDependency
from stockyard.model.host import HostRecord, Identity
from stockyard.pki.store import Pki
from stockyard.providers.open import open_provider
from stockyard.resources.context import Context
from tests.helpers.clocks import FakeClock
from tests.helpers.samples import HOST_KEY, host_record

SSH = """#!/bin/sh
echo "$@" >> {log}
case " $* " in
*" -O check "*) test -e {up} ;;
*" -O exit "*) rm {up} ;;
*" sudo "*) cat {command} >&2; test ! -s {command} ;;
*) cat {answer} >&2; test ! -s {answer} && touch {up} ;;
esac
"""


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a stand-in for ssh, its messages and its log."""
    folder = tmp_path / "ssh"
    folder.mkdir()
    names = ("log", "up", "answer", "command")
    (folder / "ssh").write_text(SSH.format(**{name: folder / name for name in names}))
    (folder / "ssh").chmod(0o755)
    for name in ("answer", "command"):
        (folder / name).touch()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.fixture
def tunnels(tmp_path: Path, clock: FakeClock) -> SocketTunnels:
    provider = open_provider(f"memory://{tmp_path}/hypervisor")
    # The directory can be deeper than the longest path of a socket.
    keys = tmp_path / ("deep" * 30)
    ctx = Context(provider, "stockyard", lambda tenant: Pki(keys / tenant, tenant), clock)
    tunnels = SocketTunnels(ctx, "default", "doors")
    tunnels.folder.mkdir(parents=True)
    return tunnels


@pytest.fixture
def record() -> HostRecord:
    identity = Identity("0" * 32, HOST_KEY, "1", 1.0)
    return host_record(identity=identity, address="127.64.1.2")


def test_a_tunnel_is_opened_once_and_leads_to_the_endpoint_only(
    tunnels: SocketTunnels, record: HostRecord, ssh: Path, clock: FakeClock
) -> None:
    for _attempt in range(2):
        tunnels.open(record, GUEST_SOCKET, Deadline(10, clock))
    checked, opened, moved, *later = (ssh / "log").read_text().splitlines()
    assert "-O check" in checked
    assert len(later) == 1
    words = opened.split()
    assert [word for word in words if word.startswith("-R")] == ["-R"]
    temporary, target = words[words.index("-R") + 1].split(":")
    assert target == "./endpoint-doors"
    for option in ("StrictHostKeyChecking=yes", "ExitOnForwardFailure=yes", "IdentityAgent=none"):
        assert option in words
    assert moved.endswith(f"mv {temporary} {GUEST_SOCKET}'")


def test_a_socket_that_was_left_is_replaced(
    tunnels: SocketTunnels, record: HostRecord, ssh: Path, clock: FakeClock
) -> None:
    control = tunnels.folder / f"{record.uuid}-endpoint"
    control.touch()
    tunnels.open(record, GUEST_SOCKET, Deadline(10, clock))
    assert not control.exists()


@pytest.mark.parametrize("message", ["Permission denied (publickey).", "refused"])
def test_a_tunnel_that_the_machine_refuses_is_an_error(
    tunnels: SocketTunnels, record: HostRecord, ssh: Path, clock: FakeClock, message: str
) -> None:
    (ssh / "answer").write_text(message)
    with pytest.raises(HypervisorError, match="cannot be opened") as caught:
        tunnels.open(record, GUEST_SOCKET, Deadline(3, clock))
    assert message in caught.value.cause


def test_a_tunnel_without_its_socket_is_closed(
    tunnels: SocketTunnels, record: HostRecord, ssh: Path, clock: FakeClock
) -> None:
    (ssh / "command").write_text("mv: not permitted")
    with pytest.raises(HypervisorError) as caught:
        tunnels.open(record, GUEST_SOCKET, Deadline(3, clock))
    assert caught.value.cause == "mv: not permitted"
    assert not (ssh / "up").exists()


def test_a_missing_ssh_is_reported(
    tunnels: SocketTunnels, record: HostRecord, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingDependency, match="ssh"):
        tunnels.open(record, GUEST_SOCKET, Deadline(3, clock))


def test_the_endpoint_is_reached_in_a_deep_directory(tunnels: SocketTunnels) -> None:
    with tunnels.place() as path, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert (tunnels.folder / "endpoint-doors").is_socket()
