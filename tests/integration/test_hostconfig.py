# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that work on the machine that they run on, through Ansible."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stockyard import SecuritySpec
from stockyard.guest.security import bundle

from .conftest import Controller, Played, task

QUIET = {"take_up": False}
SECURITY = "{'profile': 'hostile', 'limits': {'pids': 7}}"
BUNDLE = f"{{{{ {SECURITY} | stockyard.container_hosts.security_bundle(user='me') }}}}"


@pytest.fixture(scope="module")
def path(controller: Controller) -> Path:
    return controller.root / "daemon.json"


@pytest.fixture(scope="module")
def told(controller: Controller, path: Path) -> Played:
    path.write_text('{"debug": true}')
    config = {"icc": False, "debug": None}
    steps = [
        task(
            "dry",
            "docker_config",
            {"check_mode": True, "diff": True},
            config=config,
            path=str(path),
            **QUIET,
        ),
        task("first", "docker_config", {"diff": True}, config=config, path=str(path), **QUIET),
        task("again", "docker_config", config=config, path=str(path), **QUIET),
        task(
            "refused",
            "docker_config",
            {"check_mode": True},
            config={"mtu": "1400"},
            path=str(path),
            **QUIET,
        ),
        task("range", "subid", {"check_mode": True}, user="stockyard-nobody"),
        task("audit", "audit", security={"profile": "hostile"}),
        task("nested", "nested", {"check_mode": True}),
        {"name": "bundle", "ansible.builtin.set_fact": {"made": BUNDLE}},
    ]
    return controller.play(steps)


def test_a_configuration_is_written_once(told: Played, path: Path) -> None:
    assert [told[name]["changed"] for name in ("dry", "first", "again")] == [True, True, False]
    assert json.loads(path.read_text()) == {"icc": False}
    assert told["dry"]["keys"] == ["debug", "icc"]
    assert told["dry"]["action"] == "restart"
    assert told["dry"]["diff"] == told["first"]["diff"]
    assert "diff" not in told["again"]


def test_docker_config_with_a_value_of_another_type_fails_in_check_mode(told: Played) -> None:
    assert 'mtu is "1400", and must be a whole number' in told["refused"]["msg"]
    assert told["refused"]["error"]["kind"] == "InvalidInput"


def test_a_range_is_told_and_not_taken_in_check_mode(told: Played) -> None:
    assert told["range"]["changed"]
    assert told["range"]["first"] >= 100000


@pytest.mark.parametrize("name", ["audit", "nested"])
def test_what_needs_root_says_so(told: Played, name: str) -> None:
    """Whoever sees too little is not told that all is well."""
    assert "needs root" in told[name]["msg"]
    assert told[name]["error"]["kind"] == "OperationRefused"


def test_roles_put_what_templates_are_baked_with(told: Played) -> None:
    made = told["bundle"]["ansible_facts"]["made"]
    same = bundle(SecuritySpec("hostile", limits={"pids": 7}).settings(), "me")
    assert {f["path"]: (f["text"], int(f["mode"], 8)) for f in made["files"]} == {
        path: (file.text, file.mode) for path, file in same.files.items()
    }
    assert (made["packages"], made["enable"], made["masked"]) == (
        list(same.packages),
        list(same.enable),
        list(same.masked),
    )
    assert made["daemon"] == same.daemon
