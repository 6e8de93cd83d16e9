# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles on a host that was there before them: converge, change nothing the second time, and
hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockyard import HostInfo, SingleSpec, TemplateInfo, Yard
from tests.integration.conftest import Played, task

from .conftest import Docker
from .guest_controller import OnGuests, connection

pytestmark = [pytest.mark.real, pytest.mark.full]
# The host reaches no package mirror: what needs packages that it has not is left out. Its Docker
# has data already, which stay where they are.
SECURITY = {
    "profile": "hostile",
    "firewall": False,
    "audit": False,
    "limits": {"network_mib": 0, "disk_percent": 0},
}


def role(name: str, **variables: Any) -> dict[str, Any]:
    return {"role": f"stockyard.container_hosts.{name}", **variables}


@pytest.fixture(scope="module")
def host(yard: Yard, template: TemplateInfo) -> Iterator[HostInfo]:
    yield yard.hosts.apply(SingleSpec("roles", "docker")).objects[0]
    yard.hosts.delete("roles")


@pytest.fixture(scope="module")
def played(host: HostInfo, tmp_path_factory: pytest.TempPathFactory) -> list[Played]:
    """The roles, twice, then the audit."""
    root: Path = tmp_path_factory.mktemp("roles")
    (root / "hosts.json").write_text(json.dumps({"all": {"hosts": {"roles": connection(host)}}}))
    controller = OnGuests(root / "controller")
    roles = [
        role(
            "docker_engine",
            docker_engine_packages=[],
            docker_engine_icc=False,
            docker_engine_no_new_privileges=True,
        ),
        role("user_namespaces"),
        role("hardening", hardening_security=SECURITY, hardening_install=False),
    ]
    plays = [
        controller.play(
            [], "-i", str(root / "hosts.json"), hosts="roles", roles=roles, ignore_errors=False
        )
        for _turn in range(2)
    ]
    look = task("look", "audit", {"become": True})
    return [*plays, controller.play([look], "-i", str(root / "hosts.json"), hosts="roles")]


def test_they_converge(played: list[Played]) -> None:
    assert played[0].returncode == 0, played[0].output[-3000:]


def test_a_second_time_nothing_changes(played: list[Played]) -> None:
    assert "changed=0" in played[1].stdout, played[1].output[-3000:]


def test_all_settings_of_the_roles_are_in_force(played: list[Played]) -> None:
    report = played[2]["look"]
    assert [f for f in report["findings"] if f["ok"] is not True] == []
    assert report["profile"] == "hostile"


def test_container_with_host_access_is_refused(
    played: list[Played], host: HostInfo, docker: Docker
) -> None:
    result = docker(host, "create", "--privileged", "x", check=False)
    assert b"authorization denied" in result.stderr
