# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose dockerd is an ordinary user: it works, limits bite, and it comes back by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from stockyard import (
    HostInfo,
    ImageSpec,
    SecuritySpec,
    SingleSpec,
    TemplateInfo,
    TemplateSpec,
    Yard,
)

from . import attacks
from .conftest import Docker, ssh

pytestmark = [pytest.mark.real, pytest.mark.full]
TEMPLATE = TemplateSpec(
    "rootless",
    image=ImageSpec(packages=("busybox-static",)),
    security=SecuritySpec("shared", user_namespaces="rootless"),
)


@pytest.fixture(scope="module")
def rootless(yard: Yard, template: TemplateInfo, docker: Docker) -> Iterator[HostInfo]:
    yard.templates.apply(TEMPLATE)
    host = yard.hosts.apply(SingleSpec("rootless", "rootless")).objects[0]
    docker(host, "import", "-", "attacks", stdin=attacks.image(docker.busybox, (254, 0)))
    yield host
    yard.hosts.delete("rootless")


def inside(host: HostInfo, docker: Docker, name: str, *options: str) -> str:
    """A file of a container's cgroup."""
    return (
        docker(host, "run", "--rm", *options, "attacks", "cat", f"/sys/fs/cgroup/{name}")
        .stdout.decode()
        .strip()
    )


def works(host: HostInfo, docker: Docker) -> None:
    info = json.loads(docker(host, "info", "--format", "{{json .}}").stdout)
    assert "name=rootless" in info["SecurityOptions"]
    assert info["CgroupDriver"] == "systemd"
    assert docker(host, "run", "--rm", "attacks", "busybox", "echo", "hello").stdout == b"hello\n"


def test_rootless_host_reports_it_and_no_dockerd_is_root(
    rootless: HostInfo, docker: Docker
) -> None:
    works(rootless, docker)
    assert set(ssh(rootless, "ps -o user:32= -C dockerd").stdout.split()) == {"stockyard-docker"}


def test_limits_bite(rootless: HostInfo, docker: Docker) -> None:
    assert inside(rootless, docker, "memory.max", "--memory", "64m") == str(64 << 20)
    assert inside(rootless, docker, "cpu.max", "--cpus", "0.5") == "50000 100000"
    assert inside(rootless, docker, "pids.max", "--pids-limit", "7") == "7"
    bomb = (
        "run",
        "--rm",
        "--memory",
        "64m",
        "attacks",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=200M",
        "count=1",
    )
    assert docker(rootless, *bomb, check=False).returncode == 137


def test_root_of_a_privileged_container_is_the_rootless_user(
    rootless: HostInfo, docker: Docker
) -> None:
    docker(rootless, "run", "-d", "--name", "victim", "--privileged", "attacks", "sleep", "1000")
    assert attacks.uid_map(rootless, docker, "victim")[1] == 64100
    docker(rootless, "rm", "-f", "victim")
    read = docker(
        rootless, "run", "--rm", "-v", "/:/host", "attacks", "cat", "/host/etc/shadow", check=False
    )
    assert read.returncode != 0


def test_rootless_docker_works_after_a_cold_boot(
    rootless: HostInfo, yard: Yard, docker: Docker
) -> None:
    works(yard.hosts.restart("rootless").objects[0], docker)
