# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option ``egress_allow`` of the modules: check mode, replacement, and refusals."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Controller, Played, task

DRY = {"check_mode": True, "diff": True}
ALLOWED = {"egress": "allow", "egress_allow": ["*.example.org", "192.0.2.0/24"]}
CHANGED = {"egress": "allow", "egress_allow": ["*.example.org:443"]}
WEB = {"name": "web", "template": "docker", "count": 1}
INVALID: dict[str, dict[str, Any]] = {
    "loopback": {"egress": "allow", "egress_allow": ["127.0.0.1"]},
    "no destination": {"egress": "allow"},
    "no egress": {"egress_allow": ["192.0.2.1"]},
    "a name with open": {"egress": "open", "egress_allow": ["a.example.org"]},
}


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    refusals = [task(name, "fleet", **WEB, **options) for name, options in INVALID.items()]
    return controller.play(
        [
            task("template", "template", name="docker"),
            *refusals,
            task("empty", "host_info"),
            task("fleet", "fleet", **WEB, **ALLOWED),
            task("again", "fleet", **WEB, **ALLOWED),
            task("dry", "fleet", DRY, **WEB, **CHANGED),
            task("changed", "fleet", **WEB, **CHANGED),
            task("host", "host", name="one", template="docker", wait=False, **ALLOWED),
            task("list", "host_info"),
        ]
    )


@pytest.mark.parametrize("name", INVALID)
def test_invalid_destinations_are_refused_before_any_change(played: Played, name: str) -> None:
    assert played[name]["error"]["kind"] == "InvalidInput"
    assert played[name]["error"]["remedy"]
    assert played["empty"]["hosts"] == []


def test_change_of_destinations_replaces_the_host(played: Played) -> None:
    assert played["fleet"]["changed"] is True
    assert played["again"]["changed"] is False
    assert played["dry"]["plan"] == played["changed"]["plan"]
    assert played["dry"]["plan"][0].endswith("it replaces web-1: egress_allow changed")


def test_hosts_return_their_destinations(played: Played) -> None:
    hosts = {host["name"]: host for host in played["list"]["hosts"]}
    assert hosts["web-2"]["egress_allow"] == CHANGED["egress_allow"]
    assert hosts["one"]["egress_allow"] == ALLOWED["egress_allow"]
    assert hosts["one"]["egress"] == "allow"
