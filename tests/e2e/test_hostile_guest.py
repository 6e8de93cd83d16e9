# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root of a real host replaces the TLS front by a hostile server: runs end in time, and print none
of its control characters.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from stockyard import FleetSpec, HostInfo, HostSpec, TemplateInfo, UpdateSpec, Yard

from .conftest import OWNER, WORK, ssh

pytestmark = [pytest.mark.real, pytest.mark.full]
FLEET = FleetSpec("hostile", "docker", count=1, update=UpdateSpec(grace=3))
# A server with the host's own key and certificate. It sends one byte of a head every 2 s, a hundred
# thousand brackets, or a name with terminal escapes.
FRONT = r"""
import socket, ssl, sys, threading, time
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/var/lib/stockyard/tls/cert.pem", "/var/lib/stockyard/tls/key.pem")
NAME = rb'[{"Names":["/\u001b]0;owned\u0007\u001b[2K\rhost web-1: ready\nfleet: done \ud800"]}]'
BODY = {"brackets": b"[" * 100000, "escapes": NAME}.get(sys.argv[1], b"")
def answer(line):
    with context.wrap_socket(line, server_side=True) as peer:
        ping = b"/_ping" in peer.recv(65536)
        if sys.argv[1] == "slow":
            for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 1000:
                peer.sendall(bytes([byte]))
                time.sleep(2)
        body = b"OK" if ping else BODY
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
listener = socket.create_server(("", 2376), backlog=100)
print("listening", flush=True)
while True:
    threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()
"""


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def watched(yard: Yard, template: TemplateInfo, lines: list[str]) -> Iterator[Yard]:
    """The same yard, with its progress; the fleet is gone afterwards."""
    with Yard(
        "qemu:///session",
        owner=OWNER,
        storage=str(WORK / "store"),
        pki_dir=str(WORK / "pki"),
        progress=lines.append,
    ) as opened:
        yield opened
        opened.fleets.delete("hostile")


def put_front(host: HostInfo, mode: str) -> None:
    """Replace the TLS front of a host by a hostile server."""
    written = ssh(host, "sudo tee /run/front.py > /dev/null", stdin=FRONT)
    assert written.returncode == 0, written.stderr
    journal = f"sudo journalctl -u front-{mode}"
    start = (
        "sudo systemctl stop stockyard-tls.service;"
        f" sudo systemd-run --quiet --unit front-{mode} /usr/bin/python3 /run/front.py {mode};"
        f" for i in $(seq 60); do {journal} | grep -q listening && exit 0; sleep 0.5; done; exit 1"
    )
    started = ssh(host, start)
    assert started.returncode == 0, (started.stdout, started.stderr)


def test_run_with_a_host_that_answers_single_bytes_ends_at_its_deadline(watched: Yard) -> None:
    (host,) = watched.fleets.apply(FLEET).objects
    put_front(host, "slow")
    begin = time.monotonic()
    watched.fleets.apply(FLEET, check=True)
    assert time.monotonic() - begin < 45


@pytest.mark.parametrize("mode", ["brackets", "escapes"])
def test_host_whose_containers_are_nonsense_is_drained_and_replaced(
    watched: Yard, lines: list[str], mode: str
) -> None:
    (host,) = watched.fleets.apply(FLEET).objects
    put_front(host, mode)
    changed = replace(FLEET, host=HostSpec(ports=(8081 if host.ports == (8082,) else 8082,)))
    (another,) = watched.fleets.apply(changed, timeout=300).objects
    assert another.uuid != host.uuid
    assert another.ready
    assert all(line.isprintable() for line in lines)
    assert any("the list of containers is not valid" in line for line in lines), lines
