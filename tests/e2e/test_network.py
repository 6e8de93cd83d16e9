# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reachable and unreachable targets of a guest whose root forges packets; addresses at which its
ports answer.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import shlex
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    Conflict,
    HostInfo,
    HostSpec,
    HypervisorError,
    SingleSpec,
    TemplateInfo,
    Unsupported,
    Yard,
)
from stockyard.providers.libvirt import uplink_tools

from . import network_probe
from .conftest import Docker, ssh

pytestmark = pytest.mark.real
BOUND, PORT = "127.3.2.1", 8099


class Listener:
    """An HTTP server on the hypervisor's loopback that counts who comes."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                guest = self.socket.accept()[0]
                with guest:
                    guest.settimeout(5)
                    with contextlib.suppress(OSError):
                        self.came.append(guest.recv(4096).split(b"\r\n")[0])
                        guest.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\nproxied")


@pytest.fixture
def secret() -> Iterator[Listener]:
    """A controller's service: no guest may reach it."""
    new_listener = Listener()
    yield new_listener
    new_listener.socket.close()


@pytest.fixture(scope="module")
def proxy() -> Iterator[Listener]:
    """Answers whatever it is asked for, as a proxy would."""
    new_listener = Listener()
    yield new_listener
    new_listener.socket.close()


@pytest.fixture(scope="module")
def declared(proxy: Listener) -> SingleSpec:
    egress = HostSpec(
        egress="proxy", egress_proxy=f"127.0.0.1:{proxy.port}", ports=(PORT,), bind=BOUND
    )
    return SingleSpec("proxied", "docker", host=egress)


@pytest.fixture(scope="module")
def proxied(yard: Yard, template: TemplateInfo, declared: SingleSpec) -> Iterator[HostInfo]:
    """A host with a way to a proxy, and a port that is published elsewhere."""
    yield yard.hosts.apply(declared).objects[0]
    yard.hosts.delete("proxied")


def reached(host: HostInfo, targets: list[tuple[str, int]]) -> list[list[Any]]:
    """Those of these places that answer root in a guest, over its sockets or by packets that it
    makes up.
    """
    script = f"{inspect.getsource(network_probe)}\nmain({targets!r})\n"
    result = ssh(host, "sudo", "python3", "-", stdin=script)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    # Else the probe would prove nothing.
    assert all(answer["control"].values()), answer
    reached: list[list[Any]] = answer["reached"]
    return reached


def elsewhere(fleet: list[HostInfo], secret: Listener) -> list[tuple[str, int]]:
    other_address = fleet[1].address
    gateway = [("10.0.2.2", secret.port), ("10.0.2.2", 2222), ("10.0.2.3", 53)]
    crafted = [(address, secret.port) for address in ("127.0.0.1", "0.0.0.0", "10.0.2.4")]  # noqa: S104
    return [
        *gateway,
        *crafted,
        (other_address, 2222),
        (other_address, 2376),
        (other_address, 8080),
        ("198.51.100.1", 80),
    ]


def test_a_host_without_egress_reaches_nothing(fleet: list[HostInfo], secret: Listener) -> None:
    assert reached(fleet[0], elsewhere(fleet, secret)) == []
    assert secret.came == []


# Seconds for a whole command in emulation; a single question that is not answered costs 20.
AT_ONCE = 15.0
IN_CONTAINER = "docker run --rm {} busybox /bin/busybox time {}"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("getent hosts example.org", ""),
        ("docker pull example", "connection refused"),
        ("sudo apt-get update", "Temporary failure resolving"),
        (
            IN_CONTAINER.format("", "nslookup example.org"),
            "onnection refused|REFUSED|can't resolve|SERVFAIL",
        ),
        (
            IN_CONTAINER.format("", "wget -T 60 http://192.0.2.1/"),
            "Network is unreachable|Connection refused",
        ),
    ],
)
def test_lookup_in_a_host_without_egress_fails_at_once(
    fleet: list[HostInfo], docker: Docker, busybox: bytes, command: str, reason: str
) -> None:
    if "busybox" in command:
        docker(fleet[0], "import", "-", "busybox:latest", stdin=busybox)
    result = ssh(fleet[0], f"bash -c 'time {command} 2>&1'")
    minutes, seconds = re.findall(r"real\s+(\d+)m ?([\d.]+)s", result.stdout + result.stderr)[0]
    print(command, minutes, seconds)
    assert re.search(reason, result.stdout + result.stderr), result
    assert 60 * int(minutes) + float(seconds) < AT_ONCE


def test_a_host_with_a_proxy_reaches_nothing_else(
    proxied: HostInfo, fleet: list[HostInfo], secret: Listener
) -> None:
    assert reached(proxied, elsewhere(fleet, secret)) == []
    assert secret.came == []


def fetch(host: HostInfo) -> str:
    """A page of somewhere, as a login of the guest finds its way there."""
    script = (
        "import urllib.request as r; "
        "print(r.urlopen('http://outside.example/', timeout=20).read().decode())"
    )
    result = ssh(host, "python3", "-", stdin=script)
    return result.stdout + result.stderr


def test_the_proxy_is_found_from_a_login(proxied: HostInfo, proxy: Listener) -> None:
    assert fetch(proxied) == "proxied\n"
    assert proxy.came[-1] == b"GET http://outside.example/ HTTP/1.1"


@pytest.mark.full
def test_the_proxy_is_found_from_a_container(
    proxied: HostInfo, docker: Docker, busybox: bytes
) -> None:
    docker(proxied, "import", "-", "busybox:latest", stdin=busybox)
    wget = ["busybox", "wget", "-q", "-O", "-", "http://10.0.2.15:3128/"]
    assert docker(proxied, "run", "--rm", "busybox", *wget).stdout == b"proxied"


def test_published_port_answers_at_its_bind_address(proxied: HostInfo) -> None:
    assert proxied.published == (f"{BOUND}:{PORT}",)
    serve = f"import socket; s = socket.create_server(('', {PORT})); s.accept()[0].sendall(b'here')"
    server = threading.Thread(
        target=lambda: ssh(proxied, "timeout", "40", "python3", "-", stdin=serve)
    )
    server.start()
    assert answer(BOUND) == b"here"
    server.join()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((proxied.address, PORT), timeout=5)


def answer(address: str) -> bytes:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((address, PORT), timeout=5) as connection,
        ):
            greeting = connection.recv(4)
            if greeting:
                return greeting
        time.sleep(0.5)
    raise AssertionError("no server answers")


def names(yard: Yard) -> list[tuple[str, str]]:
    return [(host.name, host.uuid) for host in yard.hosts.list()]


def test_a_port_is_bound_once(yard: Yard, proxied: HostInfo) -> None:
    before = names(yard)
    for bind in (BOUND, "0.0.0.0"):  # noqa: S104
        with pytest.raises(Conflict, match=f"{PORT}.*proxied"):
            yard.hosts.apply(
                SingleSpec("second", "docker", host=HostSpec(ports=(PORT,), bind=bind))
            )
    assert names(yard) == before


@pytest.mark.parametrize("name", ["second", "proxied"])
def test_port_of_another_host_is_refused(
    yard: Yard, proxied: HostInfo, secret: Listener, name: str
) -> None:
    """A host that would be replaced in its own place for it stays."""
    before = names(yard)
    for check in (True, False):
        with pytest.raises(
            Conflict, match=f"host {name}: port {secret.port} cannot be published.*in use"
        ):
            yard.hosts.apply(
                SingleSpec(name, "docker", host=HostSpec(ports=(secret.port,), bind="127.0.0.1")),
                check=check,
            )
    assert names(yard) == before


def test_unsupported_egress_is_refused(
    yard: Yard, proxied: HostInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_allowed: object) -> None:
        raise Unsupported("/dev/net/tun cannot be opened.", remedy="load the module tun")

    monkeypatch.setattr(uplink_tools, "check", refuse)
    for spec in (HostSpec(egress="open"), HostSpec(network="default")):
        with pytest.raises(Unsupported, match="Remedy"):
            yard.hosts.apply(SingleSpec("proxied", "docker", host=spec))
    assert yard.hosts.list(name="proxied")[0].uuid == proxied.uuid


def tunnels(host: HostInfo) -> list[int]:
    """ssh processes that lead to a host."""
    received = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if line and line[0] == b"ssh" and host.uuid.encode() in line:
                received.append(int(entry.name))
    return received


def test_lost_tunnel_is_repaired(yard: Yard, proxied: HostInfo, declared: SingleSpec) -> None:
    (old,) = tunnels(proxied)
    os.kill(old, signal.SIGKILL)
    assert not yard.hosts.apply(declared).changed
    assert fetch(proxied) == "proxied\n"
    assert len(tunnels(proxied)) == 1


@pytest.mark.full
def test_foreign_listener_on_the_proxy_port_is_no_proxy(
    yard: Yard, proxied: HostInfo, declared: SingleSpec
) -> None:
    """It takes the port while the tunnel is away, and says nothing; when it has gone, all is well
    again.
    """
    (old,) = tunnels(proxied)
    os.kill(old, signal.SIGKILL)
    hold = "import socket, time; s = socket.create_server(('10.0.2.15', 3128)); time.sleep(3600)"
    line = f'until python3 -c "{hold}"; do sleep 0.2; done'
    pid = ssh(
        proxied, f"nohup setsid sh -c {shlex.quote(line)} >/dev/null 2>&1 & echo $!"
    ).stdout.strip()
    time.sleep(10)
    with pytest.raises(HypervisorError, match=r"port 3128 of the guest is in use"):
        yard.hosts.apply(declared)
    ssh(proxied, f"kill -- -{pid}")
    yard.hosts.apply(declared)
    assert fetch(proxied) == "proxied\n"


def test_a_tunnel_ends_with_its_host(yard: Yard, proxied: HostInfo) -> None:
    assert len(tunnels(proxied)) == 1
    yard.hosts.delete("proxied")
    end = time.monotonic() + 10
    while tunnels(proxied):
        assert time.monotonic() < end, "a tunnel outlives its host"
        time.sleep(0.1)
    assert list((yard.context.pki("default").directory / "tunnels").iterdir()) == []
