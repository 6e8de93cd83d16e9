# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A template with packages that have the names and paths of Docker's own."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import pytest

from stockyard import (
    BuildOptions,
    FleetSpec,
    HostInfo,
    ImageSpec,
    SecuritySpec,
    TemplateSpec,
    Yard,
)

from . import docker_ce
from .conftest import Docker, ssh
from .package_repository import LocalRepository

pytestmark = [pytest.mark.real, pytest.mark.full]
NAME = "docker-ce"


@pytest.fixture(scope="module")
def hosts(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[HostInfo]]:
    """Two forks of a template with the profile ``shared`` and audit."""
    folder = tmp_path_factory.mktemp("docker-ce")
    repository = LocalRepository(folder / "repository")
    for package in docker_ce.packages(folder):
        repository.add(package)
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    spec = TemplateSpec(
        NAME,
        image=ImageSpec(suite=suite, docker_packages="docker-ce", packages=("busybox-static",)),
        build=BuildOptions(repositories=(repository.declared,)),
        security=SecuritySpec("shared", audit=True),
    )
    try:
        yard.templates.apply(spec)
        yield list(yard.fleets.apply(FleetSpec(NAME, NAME, count=2)).objects)
    finally:
        repository.close()
        yard.fleets.delete(NAME)
        yard.templates.delete(NAME)


def test_hosts_are_forks_with_the_programs_of_the_packages(hosts: list[HostInfo]) -> None:
    for host in hosts:
        assert host.mode == "instant", host.mode_reason
        listed = ssh(host, "dpkg-query -W -f '${Package} ${Version}\\n' 'docker*' 'containerd*'")
        versions = dict(line.split() for line in listed.stdout.splitlines() if " " in line.strip())
        assert set(versions.values()) == {"5:99.0"}
        assert set(versions) == {"containerd.io", "docker-ce", "docker-ce-cli"}
        program = ssh(host, "sudo readlink /proc/$(pidof dockerd)/exe").stdout.strip()
        assert program == "/usr/bin/dockerd"


def test_containers_run_and_changes_of_the_daemon_are_recorded(
    hosts: list[HostInfo], docker: Docker, busybox: bytes
) -> None:
    docker(hosts[0], "import", "-", "busybox", stdin=busybox)
    assert docker(hosts[0], "run", "--rm", "busybox", "/bin/echo", "here").stdout == b"here\n"
    rules = ssh(hosts[0], "sudo auditctl -l").stdout
    assert "-w /usr/bin/dockerd " in rules
    assert "-w /usr/bin/runc " in rules
