# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian 12 and 13 side by side: a template and a fleet of each, on one hypervisor, in one yard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from stockyard import FleetSpec, HostInfo, ImageSpec, TemplateInfo, Yard

from .conftest import TEMPLATE, Docker, ssh
from .front_without_random import waits_without_generator

pytestmark = [pytest.mark.real, pytest.mark.full]
BOOKWORM = replace(
    TEMPLATE, name="bookworm", image=ImageSpec(suite="bookworm", packages=TEMPLATE.image.packages)
)
TWELVE = FleetSpec("twelve", "bookworm", count=2)
THIRTEEN = FleetSpec("thirteen", "docker", count=2)
# The versions of each release in the documentation.
ENGINES = {"12": ("20.10", "1.41"), "13": ("26.1", "1.45")}


@pytest.fixture(scope="module")
def fleets(yard: Yard, template: TemplateInfo) -> Iterator[dict[str, list[HostInfo]]]:
    """Two hosts of each release."""
    built = yard.templates.apply(BOOKWORM).objects[-1]
    print("a template of Debian 12:", built.sizes, "of Debian 13:", template.sizes)
    yield {
        "12": list(yard.fleets.apply(TWELVE).objects),
        "13": list(yard.fleets.apply(THIRTEEN).objects),
    }
    for name in ("twelve", "thirteen"):
        yard.fleets.delete(name)
    yard.templates.delete("bookworm")


def test_fleets_of_both_releases_serve_side_by_side(
    fleets: dict[str, list[HostInfo]], docker: Docker, busybox: bytes
) -> None:
    for release, hosts in fleets.items():
        for host in hosts:
            assert host.mode == "instant", host.mode_reason
            words = ssh(
                host, ". /etc/os-release; echo $VERSION_ID $(hostname); uname -r"
            ).stdout.split()
            print(host.name, words)
            assert words[:2] == [release, host.name]
            docker(host, "import", "-", "busybox", stdin=busybox)
            assert docker(host, "run", "--rm", "busybox", "/bin/echo", "here").stdout == b"here\n"


def test_each_release_has_the_documented_docker(
    fleets: dict[str, list[HostInfo]], docker: Docker
) -> None:
    for release, hosts in fleets.items():
        line = docker(
            hosts[0], "version", "--format", "{{.Server.Version}} {{.Server.APIVersion}}"
        ).stdout.decode()
        version, api = line.split()
        print(f"Debian {release}: Docker {version}, API {api}")
        assert (version.rpartition(".")[0], api) == ENGINES[release]


def test_they_are_hosts_of_their_own(fleets: dict[str, list[HostInfo]]) -> None:
    kernels = [
        ssh(
            host,
            "cat /etc/machine-id; head -c 16 /dev/urandom | sha256sum; cat "
            "/etc/ssh/ssh_host_ed25519_key.pub",
        ).stdout
        for hosts in fleets.values()
        for host in hosts
    ]
    lines = [line for text in kernels for line in text.splitlines()]
    assert len(lines) == 12
    assert len(set(lines)) == 12


def test_second_run_of_both_releases_changes_nothing(
    yard: Yard, fleets: dict[str, list[HostInfo]]
) -> None:
    assert not yard.templates.apply(BOOKWORM).changed
    assert not yard.fleets.apply(THIRTEEN).changed
    assert not yard.fleets.apply(TWELVE).changed


def test_waiting_front_has_no_random_generator(fleets: dict[str, list[HostInfo]]) -> None:
    """stunnel and OpenSSL are others in each release."""
    for hosts in fleets.values():
        waits_without_generator(hosts[0])
