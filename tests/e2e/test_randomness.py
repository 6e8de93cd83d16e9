# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""No random number comes twice: from the kernel, nor from a process that lived across the freeze
and makes secrets.

Which processes those are: the identity agent (OpenSSL's and Python's generators live in it) and
dockerd (Go reads the kernel; its draws name containers and volumes). sshd starts after the reseed.
The TLS front is frozen before it has a generator.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stockyard import FleetSpec, HostInfo, Yard
from stockyard.clock import Deadline

from .conftest import FLEET, ssh
from .front_without_random import waits_without_generator

pytestmark = pytest.mark.real
# A thousand of each where there are ten hosts or more.
DRAWS = 100


@pytest.fixture(scope="module", params=[10, pytest.param(20, marks=pytest.mark.full)])
def many(
    request: pytest.FixtureRequest, yard: Yard, fleet: list[HostInfo]
) -> Iterator[list[HostInfo]]:
    """The shared ten; in full runs ten more."""
    count = request.param - FLEET.count
    more = yard.fleets.apply(FleetSpec("more", "docker", count=count)).objects if count else ()
    yield [*fleet, *more]
    yard.fleets.delete("more")


def all_differ(draws: list[str] | list[bytes]) -> bool:
    return len(set(draws)) == len(draws)


def test_the_kernels(many: list[HostInfo]) -> None:
    def draw(host: HostInfo) -> list[str]:
        result = ssh(host, f"head -c {32 * DRAWS} /dev/urandom | od -An -v -tx1 -w32")
        return result.stdout.splitlines()

    with ThreadPoolExecutor(max_workers=2) as pool:
        draws = [value for values in pool.map(draw, many) for value in values]
    assert len(draws) == DRAWS * len(many)
    assert all_differ(draws)


def test_the_agents(yard: Yard, many: list[HostInfo]) -> None:
    drawn: dict[str, list[str]] = {}
    provider = yard.context.provider
    for host in provider.observe(yard.context.owner).hosts:
        if host.record.name not in {h.name for h in many}:
            continue
        with yard.context.guest(host.record, Deadline(20 * DRAWS)) as guest:
            for _number in range(DRAWS):
                for source, value in guest.draw().by_source.items():
                    drawn.setdefault(source, []).append(value)
    assert set(drawn) == {"kernel", "openssl", "python"}
    for source, values in drawn.items():
        assert len(values) == DRAWS * len(many)
        assert all_differ(values), source


def test_dockerds(many: list[HostInfo]) -> None:
    """The name of a volume that is made without one is 32 bytes that dockerd draws."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        names = [name for names_of_host in pool.map(volumes, many) for name in names_of_host]
    assert len(names) == DRAWS * len(many)
    assert all(len(bytes.fromhex(name)) == 32 for name in names)
    assert all_differ(names)


def test_the_fronts(many: list[HostInfo]) -> None:
    """The random value of a ServerHello, 32 bytes (RFC 8446, section 4.1.3)."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        draws = list(pool.map(greeted, [host for host in many for _number in range(5)]))
    assert all(len(set(value)) > 8 for value in draws)
    assert all_differ(draws)


def test_a_front_that_waits_has_no_generator(many: list[HostInfo]) -> None:
    waits_without_generator(many[0])


def greeted(host: HostInfo) -> bytes:
    """Return the random value in the first message of a front."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        trusting(host).wrap_bio(incoming, outgoing, server_hostname=host.address).do_handshake()
    with socket.create_connection((host.address, 2376), 60) as front:
        front.sendall(outgoing.read())
        # A record's header has 5 bytes, a handshake message's 4, and its version 2.
        return front.recv(4096)[11:43]


def trusting(host: HostInfo) -> ssl.SSLContext:
    """Return the operator's TLS settings for a host."""
    certificates = Path(host.docker.environment["DOCKER_CERT_PATH"])
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    return context


def volumes(host: HostInfo) -> list[str]:
    """Create volumes without names over one connection, and delete them."""
    connection = http.client.HTTPSConnection(host.address, 2376, timeout=60, context=trusting(host))

    def ask(method: str, path: str, body: str = "") -> bytes:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer_body = answer.read()
        assert answer.status < 300, answer_body
        return answer_body

    names = [json.loads(ask("POST", "/volumes/create", "{}"))["Name"] for _number in range(DRAWS)]
    for name in names:
        ask("DELETE", f"/volumes/{name}")
    connection.close()
    return names
