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
def played(controller: Controller, path: Path) -> Played:
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


def test_a_configuration_is_written_once(played: Played, path: Path) -> None:
    assert [played[name]["changed"] for name in ("dry", "first", "again")] == [True, True, False]
    assert json.loads(path.read_text()) == {"icc": False}
    assert played["dry"]["keys"] == ["debug", "icc"]
    assert played["dry"]["action"] == "restart"
    assert played["dry"]["diff"] == played["first"]["diff"]
    assert "diff" not in played["again"]


def test_docker_config_with_a_value_of_another_type_fails_in_check_mode(played: Played) -> None:
    assert 'mtu is "1400", and must be a whole number' in played["refused"]["msg"]
    assert played["refused"]["error"]["kind"] == "InvalidInput"


def test_check_mode_reports_a_range_without_allocating_it(played: Played) -> None:
    assert played["range"]["changed"]
    assert played["range"]["first"] >= 100000


@pytest.mark.parametrize("name", ["audit", "nested"])
def test_modules_that_need_root_report_it(played: Played, name: str) -> None:
    """A run without the necessary rights does not report success."""
    assert "needs root" in played[name]["msg"]
    assert played[name]["error"]["kind"] == "OperationRefused"


def test_roles_install_the_files_of_a_template(played: Played) -> None:
    baked = played["bundle"]["ansible_facts"]["made"]
    expected = bundle(SecuritySpec("hostile", limits={"pids": 7}).settings(), "me")
    assert {f["path"]: (f["text"], int(f["mode"], 8)) for f in baked["files"]} == {
        path: (file.text, file.mode) for path, file in expected.files.items()
    }
    assert (baked["packages"], baked["enable"], baked["masked"]) == (
        list(expected.packages),
        list(expected.enable),
        list(expected.masked),
    )
    assert baked["daemon"] == expected.daemon
