# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""No random number comes twice: from the kernel, nor from a process that lived across the freeze and makes secrets.

Which processes those are: the identity agent (OpenSSL's and Python's generators live in it) and dockerd (Go reads the
kernel; its draws name containers and volumes). sshd and the TLS front start after the reseed.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stockyard import FleetSpec, Yard
from stockyard.core.clock import Deadline

from .conftest import FLEET, Docker, ssh

pytestmark = pytest.mark.real
DRAWS = 100
AGENT_DRAWS = 20
Host = dict[str, Any]


@pytest.fixture(scope="module", params=[10, pytest.param(20, marks=pytest.mark.full)])
def many(request: pytest.FixtureRequest, yard: Yard, fleet: list[Host]) -> Iterator[list[Host]]:
    """The shared ten; in full runs ten more."""
    count = request.param - FLEET.count
    yield fleet + (yard.fleet(FleetSpec("more", "docker", count=count)).objects if count else [])
    yard.remove_fleet("more")


def all_differ(draws: list[str]) -> bool:
    return len(set(draws)) == len(draws)


def test_the_kernels(many: list[Host]) -> None:
    def draw(host: Host) -> list[str]:
        done = ssh(host, f"head -c {32 * DRAWS} /dev/urandom | od -An -v -tx1 -w32")
        return done.stdout.splitlines()

    with ThreadPoolExecutor(max_workers=2) as pool:
        draws = [value for values in pool.map(draw, many) for value in values]
    assert len(draws) == DRAWS * len(many)
    assert all_differ(draws)


def test_the_agents(yard: Yard, many: list[Host]) -> None:
    drawn: dict[str, list[str]] = {}
    provider = yard.context.provider
    for host in provider.observe(yard.context.owner).hosts:
        if host.record.name not in {h["name"] for h in many}:
            continue
        channel = provider.channel(host.record, Deadline(20))
        try:
            for _each in range(AGENT_DRAWS):
                for source, value in channel.request({"op": "draw"}, Deadline(20)).items():
                    if isinstance(value, str):
                        drawn.setdefault(source, []).append(value)
        finally:
            channel.close()
    assert set(drawn) == {"kernel", "openssl", "python"}
    for source, values in drawn.items():
        assert len(values) == AGENT_DRAWS * len(many)
        assert all_differ(values), source


def test_dockerds(many: list[Host], docker: Docker) -> None:
    """The name of a volume that is made without one is 32 bytes that dockerd draws."""

    def draw(host: Host) -> str:
        return docker(host, "volume", "create").stdout.decode().strip()

    with ThreadPoolExecutor(max_workers=2) as pool:
        names = list(pool.map(draw, [*many, *many]))
    assert all(len(bytes.fromhex(name)) == 32 for name in names)
    assert all_differ(names)
