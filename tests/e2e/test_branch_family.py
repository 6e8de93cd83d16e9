# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A parent and its eight children: no two share an identity or a random number."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from stockyard import BranchSpec, HostInfo, SingleSpec, TemplateInfo, Yard

from .branched_hosts import (
    chain_of,
    check_counter,
    check_identities,
    leftovers,
    places_of,
    private_keys,
    start_counter,
)
from .conftest import OWNER, Docker, ssh

pytestmark = [pytest.mark.real, pytest.mark.full]
PARENT, CHILDREN = "oak", tuple(f"acorn-{number}" for number in range(1, 9))
DRAWS, BYTES = 1000, 32
# A process that starts after the branch, with generators of its own.
FRESH = f"""
import random, ssl
for _draw in range({DRAWS}):
    print(ssl.RAND_bytes({BYTES}).hex(), random.randbytes({BYTES}).hex())
"""


@pytest.fixture(scope="module")
def family(
    yard: Yard, template: TemplateInfo, docker: Docker, busybox: bytes
) -> Iterator[tuple[HostInfo, ...]]:
    """A parent and its eight children. Their counters are paused, because nine of them use most of
    the machine; each continued for a moment.
    """
    parent = yard.hosts.apply(SingleSpec(PARENT, "docker")).object
    start_counter(docker, parent, busybox)
    spec = BranchSpec(PARENT, CHILDREN, containers="pause")
    children = yard.hosts.branch(spec, timeout=900).objects
    docker(parent, "pause", "counter")
    for host in (parent, *children):
        docker(host, "unpause", "counter")
        check_counter(docker, host)
        docker(host, "pause", "counter")
    yield (parent, *children)
    for name in (PARENT, *CHILDREN):
        yard.hosts.delete(name)
    assert leftovers(yard) == set()


def test_nine_hosts_differ_in_everything(yard: Yard, family: tuple[HostInfo, ...]) -> None:
    assert len(family) == 9
    check_identities(family)
    disks = {host.name: chain_of(yard, host) for host in family}
    assert len({tuple(chain) for chain in disks.values()}) == 1


def test_no_random_number_comes_twice(yard: Yard, family: tuple[HostInfo, ...]) -> None:
    """Neither from the kernel, nor from the agent, nor from a process that starts later."""
    kernel = f"head -c {BYTES * DRAWS} /dev/urandom | od -An -v -tx1 -w{BYTES} | tr -d ' '"

    def draw(host: HostInfo) -> list[str]:
        result = ssh(host, f"{kernel}; python3 -c '{FRESH}'", timeout=300)
        assert result.returncode == 0, result.stderr
        return result.stdout.split()

    with ThreadPoolExecutor(max_workers=2) as pool:
        draws = [number for numbers in pool.map(draw, family) for number in numbers]
    assert len(draws) == 3 * DRAWS * len(family)
    uuids = {host.uuid for host in family}
    for host in yard.context.provider.observe(OWNER).hosts:
        if host.record.uuid in uuids:
            with yard.context.guest(host.record, yard.context.deadline(900)) as guest:
                for _draw in range(DRAWS):
                    draws += guest.draw().by_source.values()
    assert len(draws) == len(set(draws)) == 6 * DRAWS * len(family)


def test_no_key_of_the_parent_is_in_any_file_of_a_child(family: tuple[HostInfo, ...]) -> None:
    keys = private_keys(family[0])
    # The search would find them.
    assert places_of(keys, family[0])
    assert places_of(keys, family[1], ["/"]) == ""
    for child in family[2:]:
        assert places_of(keys, child) == "", child.name
