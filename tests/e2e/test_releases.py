# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian 12 and 13 side by side: a template and a fleet of each, on one hypervisor, in one yard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from stockyard import FleetSpec, ImageSpec, Yard

from .conftest import TEMPLATE, Docker, ssh
from .drawless import waits_without_generator

pytestmark = [pytest.mark.real, pytest.mark.full]
Host = dict[str, Any]
TRIXIE = replace(TEMPLATE, name="trixie", image=ImageSpec(suite="trixie", packages=TEMPLATE.image.packages))
BOOKWORM = FleetSpec("twelve", "docker", count=2)
FLEET = FleetSpec("thirteen", "trixie", count=2)


@pytest.fixture(scope="module")
def fleets(yard: Yard, template: Host) -> Iterator[dict[str, list[Host]]]:
    """Two hosts of each release."""
    (made,) = yard.template(TRIXIE).objects
    print("a template of Debian 13:", made["sizes"])
    yield {"12": yard.fleet(BOOKWORM).objects, "13": yard.fleet(FLEET).objects}
    for name in ("twelve", "thirteen"):
        yard.remove_fleet(name)
    yard.remove_template("trixie")


def test_fleets_of_both_releases_serve_side_by_side(
    fleets: dict[str, list[Host]], docker: Docker, busybox: bytes
) -> None:
    for release, hosts in fleets.items():
        for host in hosts:
            assert host["mode"] == "instant", host["mode_reason"]
            said = ssh(host, ". /etc/os-release; echo $VERSION_ID $(hostname); uname -r").stdout.split()
            print(host["name"], said)
            assert said[:2] == [release, host["name"]]
            docker(host, "import", "-", "busybox", stdin=busybox)
            assert docker(host, "run", "--rm", "busybox", "/bin/echo", "here").stdout == b"here\n"


def test_they_are_hosts_of_their_own(fleets: dict[str, list[Host]]) -> None:
    found = [
        ssh(
            host, "cat /etc/machine-id; head -c 16 /dev/urandom | sha256sum; cat /etc/ssh/ssh_host_ed25519_key.pub"
        ).stdout
        for hosts in fleets.values()
        for host in hosts
    ]
    lines = [line for text in found for line in text.splitlines()]
    assert len(lines) == 12
    assert len(set(lines)) == 12


def test_nothing_changes_when_they_are_asked_for_again(yard: Yard, fleets: dict[str, list[Host]]) -> None:
    assert not yard.template(TRIXIE).changed
    assert not yard.fleet(FLEET).changed
    assert not yard.fleet(BOOKWORM).changed


def test_a_front_that_waits_has_no_generator(fleets: dict[str, list[Host]]) -> None:
    """stunnel and OpenSSL are others in each release."""
    for hosts in fleets.values():
        waits_without_generator(hosts[0])
