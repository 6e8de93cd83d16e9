# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module reap, the playbook reap, and the console command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import CHECKOUT, Controller, Played, task

DRY = {"check_mode": True, "diff": True}
CI = {"name": "ci", "template": "docker", "count": 2}
PLAYBOOK = "stockyard.container_hosts.reap"


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    return controller.play(
        [
            task("template", "template", name="docker"),
            task("fleet", "fleet", **CI),
            task("nothing", "reap"),
            task("taken", "lease", fleet="ci", holder="me", duration="1s"),
            {"name": "sleep", "ansible.builtin.pause": {"seconds": 2}},
            task("list", "lease_info"),
            task("dry", "reap", DRY),
            task("reaped", "reap", {"diff": True}),
            task("again", "reap"),
            task("bad", "reap", grace="soon"),
        ]
    )


def test_expired_objects_are_reaped(played: Played) -> None:
    host = played["taken"]["lease"]["host"]
    assert played["nothing"]["changed"] is False
    assert played["list"]["leases"][0]["ended"] is True
    assert played["dry"]["plan"][0] == f"delete host {host}: its lease by me expired"
    assert f"host {host}" in played["dry"]["diff"]["before"]
    assert played["reaped"]["plan"][0] == played["dry"]["plan"][0]
    assert f"host {host}: deleted" in played["reaped"]["progress"]
    assert played["again"]["changed"] is False
    assert played["again"]["skipped_objects"] == []
    assert "is not a duration" in played["bad"]["msg"]


def add_foreign_machine(controller: Controller) -> None:
    """Add a machine that has a name of the yard, but no record."""
    machine = ["stockyard.default.foreign", {"record": "", "state": "running"}]
    with controller.state.open("a") as state:
        state.write(json.dumps(machine) + "\n")


def test_playbook_reports_skipped_objects(
    controller: Controller, played: Played, tmp_path: Path
) -> None:
    declaration = tmp_path / "yard.yml"
    declaration.write_text(json.dumps({"yard_owner": "stockyard"}))
    add_foreign_machine(controller)
    dry = controller.run(PLAYBOOK, "-e", f"yard={declaration}", "--check", "--diff")
    assert dry.returncode == 0, dry.output
    result = controller.run(PLAYBOOK, "-e", f"yard={declaration}", "-e", "reap_grace=0s")
    assert result.returncode == 0, result.output
    assert "machine stockyard.default.foreign: " in result.stdout
    assert "changed=0 " in result.stdout


def test_command_reports_the_same_result(controller: Controller, played: Played) -> None:
    environment = {
        **controller.environment,
        "PYTHONPATH": str(CHECKOUT / "plugins" / "module_utils"),
    }

    def run(*words: str) -> str:
        argv = [sys.executable, "-m", "stockyard.cli.main", *words]
        result = subprocess.run(
            argv,
            cwd=controller.home,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    number = json.loads(run("lease", "take", "--fleet", "ci", "--duration", "1s", "--json"))["host"]
    time.sleep(1.5)
    add_foreign_machine(controller)
    assert f"would delete host {number}: its lease by " in run("reap", "--dry-run")
    answer = json.loads(run("reap", "--json", "--quiet"))
    assert answer["plan"][0].startswith(f"delete host {number}: ")
    assert answer["skipped_objects"][0]["name"] == "stockyard.default.foreign"
