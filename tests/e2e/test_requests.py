# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw requests over mutual TLS: a hostile host refuses each, and a host without the plugin does
what it asks for.

Debian 13's Docker is tried in every run, Debian 12's in long ones.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest

from stockyard import HostInfo, SingleSpec, TemplateSpec, Yard
from stockyard.guest.security import addresses
from tests.helpers.escape_attempts import ATTEMPTS, CUTS_OFF, Attempt

from .conftest import TEMPLATE, Docker, ssh
from .raw_docker import Raw
from .test_attacks import TEMPLATES

pytestmark = pytest.mark.real
HOSTILE = TEMPLATES["hostile"]
PREPARED = (HOSTILE,)
OLD_IMAGE = replace(TEMPLATE.image, suite="bookworm")
# The templates of each engine: a hostile one, and one without a plugin.
ENGINES: dict[str, tuple[TemplateSpec, TemplateSpec]] = {
    "26.1": (HOSTILE, TEMPLATE),
    "20.10": (
        replace(HOSTILE, name="hostile-old", image=OLD_IMAGE),
        replace(TEMPLATE, name="old", image=OLD_IMAGE),
    ),
}
DENIED = "authorization denied"
POOLS = [ipaddress.ip_network(base) for base, _size in addresses.POOLS]


@dataclass(frozen=True)
class Reply:
    """A host's reply to an attempt.

    :param observed: the value that the created container has for the key that the attempt is about.
    """

    status: int
    text: str
    observed: Any = None


@pytest.fixture(scope="module", params=["26.1", pytest.param("20.10", marks=pytest.mark.full)])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def hosts(
    yard: Yard, docker: Docker, busybox: bytes, engine: str
) -> Iterator[tuple[HostInfo, HostInfo]]:
    """A hostile host and one without a plugin, each with an image and a container that runs."""
    names = ("refuses", "obeys")
    created = []
    for name, template in zip(names, ENGINES[engine], strict=True):
        yard.templates.apply(template)
        host = yard.hosts.apply(SingleSpec(name, template.name)).objects[0]
        docker(host, "import", "-", "attacks", stdin=busybox)
        docker(host, "run", "-d", "--name", "victim", "attacks", "sleep", "100000")
        created.append(host)
    yield created[0], created[1]
    for name in names:
        yard.hosts.delete(name)


def ask(raw: Raw, attempt: Attempt) -> Reply:
    status, text = raw(attempt.uri, attempt.body or None, attempt.method, **attempt.headers)
    observed = None
    if status == 201 and attempt.effect:
        _status, container = raw(f"/containers/{json.loads(text)['Id']}/json", method="GET")
        observed = json.loads(container)["HostConfig"][attempt.effect[0]]
    if status == 201 and attempt.uri == "/networks/create":
        raw("/networks/cut", method="DELETE")
    return Reply(status, text, observed)


@pytest.fixture(scope="module")
def replies(hosts: tuple[HostInfo, HostInfo]) -> tuple[dict[str, Reply], dict[str, Reply]]:
    """The replies of both hosts, by the name of the attempt."""

    def ask_all(host: HostInfo, names: list[str]) -> dict[str, Reply]:
        with Raw(host) as raw:
            return {name: ask(raw, ATTEMPTS[name]) for name in names}

    harmless = [name for name in ATTEMPTS if not name.startswith(CUTS_OFF)]
    with ThreadPoolExecutor() as pool:
        control = pool.submit(ask_all, hosts[1], harmless)
        return ask_all(hosts[0], list(ATTEMPTS)), control.result()


def shows(observed: Any, value: Any) -> bool:
    """dockerd adds its default limits to the list of limits."""
    return (
        all(item in observed for item in value)
        if isinstance(value, list) and value
        else bool(observed == value)
    )


@pytest.mark.parametrize("name", ATTEMPTS)
def test_raw_request_is_refused_and_succeeds_without_the_plugin(
    replies: tuple[dict[str, Reply], dict[str, Reply]], name: str
) -> None:
    attempt = ATTEMPTS[name]
    refusal, control = replies[0][name], replies[1].get(name)
    assert (refusal.status, DENIED in refusal.text) == (403, True), refusal
    if control is not None:
        assert DENIED not in control.text
        assert not attempt.succeeds or control.status in (200, 201, 204), control
        assert (
            attempt.effect is None
            or control.status != 201
            or shows(control.observed, attempt.effect[1])
        )


def test_host_answers_after_all_networks(
    replies: object, hosts: tuple[HostInfo, HostInfo], docker: Docker
) -> None:
    assert ssh(hosts[0], "echo", "alive").stdout == "alive\n"
    assert docker(hosts[0], "run", "--rm", "attacks", "echo", "alive").stdout == b"alive\n"


@pytest.mark.parametrize(
    "options", [(), ("--ipv6",), ("--subnet", "172.18.77.0/24"), ("--ipv6", "--internal")]
)
def test_network_of_docker_is_inside_the_pools(
    hosts: tuple[HostInfo, HostInfo], docker: Docker, options: tuple[str, ...]
) -> None:
    """In each profile, so that no network of Docker's meets one of the host's."""

    def networks(host: HostInfo) -> Any:
        docker(host, "network", "create", *options, "pooled")
        observed = json.loads(docker(host, "network", "inspect", "pooled", "bridge").stdout)
        docker(host, "network", "rm", "pooled")
        return observed

    with ThreadPoolExecutor() as pool:
        for observed in pool.map(networks, hosts):
            subnets = [
                ipaddress.ip_network(item["Subnet"])
                for network in observed
                for item in network["IPAM"]["Config"]
            ]
            assert subnets
            for subnet in subnets:
                assert any(
                    base.version == subnet.version and base.overlaps(subnet) for base in POOLS
                )


@pytest.mark.parametrize("client", ["the distribution's", "this machine's"])
def test_docker_client_works_on_a_hostile_host(
    hosts: tuple[HostInfo, HostInfo], docker: Docker, client: str
) -> None:
    path = shutil.which("docker") if client == "this machine's" else str(docker.client)
    if path is None:
        pytest.skip("no docker client is installed")
    environment = {
        "PATH": os.environ["PATH"],
        "DOCKER_BUILDKIT": "0",
        **hosts[0].docker.environment,
    }
    limits = (
        "--memory",
        "32m",
        "--ulimit",
        "nofile=100:200",
        "--health-cmd",
        "true",
        "-p",
        "80",
        "-v",
        "data:/data",
    )
    for line in (
        ("network", "create", "app"),
        (
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "app",
            "--network-alias",
            "w",
            *limits,
            "attacks",
            "sleep",
            "99",
        ),
        ("exec", "-e", "A=1", "web", "true"),
        ("update", "--cpus", "0.5", "web"),
        ("commit", "web", "copy"),
        ("run", "--rm", "--init", "--tmpfs", "/x", "--cap-drop", "ALL", "copy", "true"),
        ("network", "disconnect", "app", "web"),
        ("network", "connect", "--alias", "v", "app", "web"),
        ("rm", "-fv", "web"),
        ("rmi", "copy"),
        ("network", "rm", "app"),
        ("volume", "rm", "data"),
    ):
        subprocess.run([path, *line], env=environment, check=True, capture_output=True, timeout=120)
