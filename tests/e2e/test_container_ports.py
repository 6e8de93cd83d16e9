# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports that Docker publishes in a host: reachable at the host's address as soon as ``docker run``
returns, for as long as the container runs.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stockyard import HostInfo, HostSpec, SingleSpec, TemplateInfo, Yard

from .conftest import Docker, ssh

pytestmark = pytest.mark.real
SPEC = SingleSpec("ports", "docker", host=HostSpec(container_ports=True))
SERVER = ("box", "/bin/httpd", "-f", "-p", "80")
# Seconds for a follower to connect again, for example after a reboot of the guest.
RECONNECTION = 240.0


@pytest.fixture(scope="module")
def host(yard: Yard, template: TemplateInfo, docker: Docker, busybox: bytes) -> Iterator[HostInfo]:
    """A host whose container ports are forwarded, with the image ``box``."""
    new_host = yard.hosts.apply(SPEC).objects[0]
    docker(new_host, "import", "-", "box", stdin=busybox)
    yield new_host
    yard.hosts.delete("ports")


@pytest.fixture(autouse=True)
def no_containers(host: HostInfo, docker: Docker) -> Iterator[None]:
    """Delete the containers of a test."""
    yield
    identifiers = docker(host, "ps", "-aq").stdout.decode().split()
    if identifiers:
        docker(host, "rm", "-f", *identifiers, timeout=300)


def run(docker: Docker, host: HostInfo, *options: str) -> str:
    """Start a web server in a container; return the container's ID."""
    result = docker(host, "run", "-d", *options, *SERVER, timeout=300)
    return result.stdout.decode().strip()


def connects(host: HostInfo, port: int) -> bool:
    """Return whether the first connection succeeds."""
    try:
        with socket.create_connection((host.address, port), 20):
            return True
    except ConnectionRefusedError:
        return False


def serves(host: HostInfo, port: int, patience: float = 20) -> bool:
    """Return whether a web server answers. It needs a moment to start in its container."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            with socket.create_connection((host.address, port), 20) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if connection.recv(5) == b"HTTP/":
                    return True
        except OSError:
            time.sleep(0.2)
    return False


def wait_until_refused(host: HostInfo, port: int) -> None:
    end = time.monotonic() + 20
    while connects(host, port):
        assert time.monotonic() < end, f"port {port} is still forwarded"
        time.sleep(0.1)


def follower(host: HostInfo) -> int:
    """Return the process that forwards the ports of a host."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if host.uuid.encode() in words and any(b"class Follower" in word for word in words):
                return int(entry.name)
    return 0


def test_port_of_a_container_is_reachable_until_the_container_ends(
    yard: Yard, host: HostInfo, docker: Docker
) -> None:
    identifier = run(docker, host, "-p", "9999:80")
    assert connects(host, 9999)
    assert serves(host, 9999)
    info = yard.hosts.get("ports")
    assert (info.container_ports, info.drift) == ((9999,), ())
    docker(host, "stop", "-t", "0", identifier)
    wait_until_refused(host, 9999)
    assert yard.hosts.get("ports").container_ports == ()
    docker(host, "start", identifier)
    assert connects(host, 9999)
    random = docker(host, "port", run(docker, host, "-P", "--expose", "80")).stdout.decode()
    assert serves(host, int(random.splitlines()[0].rpartition(":")[2]))


def test_port_in_use_is_reported_to_docker(host: HostInfo, docker: Docker) -> None:
    with socket.create_server((host.address, 9998)):
        result = docker(host, "run", "-d", "-p", "9998:80", *SERVER, check=False)
    message = result.stderr.decode()
    assert result.returncode
    assert f"the hypervisor cannot use it at {host.address}: Address already in use" in message
    own = docker(host, "run", "-d", "-p", "2222:80", *SERVER, check=False).stderr.decode()
    assert "the hypervisor uses port 2222" in own


def test_next_run_repairs_a_killed_follower(yard: Yard, host: HostInfo, docker: Docker) -> None:
    run(docker, host, "-p", "9001:80")
    stopped = run(docker, host, "-p", "9002:80")
    process = follower(host)
    os.kill(process, signal.SIGKILL)
    time.sleep(1)
    assert connects(host, 9001)
    docker(host, "rm", "-f", stopped)
    assert yard.hosts.get("ports").drift == (
        "new ports of its containers are not forwarded: the process that forwards them has ended",
    )
    refused = docker(host, "run", "-d", "-p", "9003:80", *SERVER, check=False)
    assert "the hypervisor does not forward ports now" in refused.stderr.decode()
    yard.hosts.apply(SPEC)
    assert follower(host) not in (0, process)
    info = yard.hosts.get("ports")
    assert (info.container_ports, info.drift) == ((9001,), ())
    run(docker, host, "-p", "9003:80")
    assert connects(host, 9003)


@pytest.mark.full
def test_ten_containers_at_once_are_reachable(host: HostInfo, docker: Docker) -> None:
    ports = range(9100, 9110)

    def start(port: int) -> bool:
        run(docker, host, "-p", f"{port}:80")
        return connects(host, port)

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(start, ports)) == [True] * 10
    assert all(serves(host, port) for port in ports)


@pytest.mark.full
def test_first_connection_to_each_of_100_ports_succeeds(host: HostInfo, docker: Docker) -> None:
    results = []
    for first in range(9200, 9300, 20):
        ports = range(first, first + 20)
        published = f"{first}-{ports[-1]}"
        identifier = run(docker, host, "-p", f"{published}:{published}")
        results += [connects(host, port) for port in ports]
        docker(host, "rm", "-f", identifier)
    assert results == [True] * 100


@pytest.mark.full
def test_ports_are_forwarded_again_after_a_suspension_and_a_reboot(
    yard: Yard, host: HostInfo, docker: Docker
) -> None:
    run(docker, host, "-p", "9300:80", "--restart", "always")
    yard.hosts.suspend("ports")
    assert not follower(host)
    yard.hosts.resume("ports")
    assert connects(host, 9300)
    # From inside: the machine continues, and its follower connects again.
    process = follower(host)
    ssh(host, "sudo", "systemctl", "--no-block", "reboot")
    time.sleep(20)
    assert serves(host, 9300, RECONNECTION)
    end = time.monotonic() + RECONNECTION
    while (info := yard.hosts.get("ports")).drift or info.container_ports != (9300,):
        assert time.monotonic() < end, info
        time.sleep(2)
    assert follower(host) == process
    yard.hosts.restart("ports")
    assert serves(host, 9300)
    docker(host, "run", "--rm", "-p", "9301:80", "box", "/bin/true", timeout=300)
    ssh(host, "sudo", "systemctl", "restart", "docker", timeout=300)
    assert serves(host, 9300)


@pytest.mark.full
def test_follower_ends_with_its_machine(yard: Yard, template: TemplateInfo, docker: Docker) -> None:
    short = SingleSpec("short", "docker", host=HostSpec(container_ports=True))
    host = yard.hosts.apply(short).objects[0]
    assert follower(host)
    yard.hosts.delete("short")
    end = time.monotonic() + 20
    while follower(host):
        assert time.monotonic() < end
        time.sleep(0.1)
