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
def told(controller: Controller) -> Played:
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


def test_what_is_over_is_taken_away(told: Played) -> None:
    host = told["taken"]["lease"]["host"]
    assert told["nothing"]["changed"] is False
    assert told["list"]["leases"][0]["ended"] is True
    assert told["dry"]["plan"][0] == f"delete host {host}: its lease by me expired"
    assert f"host {host}" in told["dry"]["diff"]["before"]
    assert told["reaped"]["plan"][0] == told["dry"]["plan"][0]
    assert f"host {host}: deleted" in told["reaped"]["progress"]
    assert told["again"]["changed"] is False
    assert told["again"]["skipped_objects"] == []
    assert "is not a duration" in told["bad"]["msg"]


def test_the_playbook_says_what_it_left_alone(
    controller: Controller, told: Played, tmp_path: Path
) -> None:
    declaration = tmp_path / "yard.yml"
    declaration.write_text(json.dumps({"yard_owner": "stockyard"}))
    with controller.state.open("a") as state:
        state.write(
            json.dumps(["stockyard.default.foreign", {"record": "", "state": "running"}]) + "\n"
        )
    dry = controller.run(PLAYBOOK, "-e", f"yard={declaration}", "--check", "--diff")
    assert dry.returncode == 0, dry.output
    done = controller.run(PLAYBOOK, "-e", f"yard={declaration}", "-e", "reap_grace=0s")
    assert done.returncode == 0, done.output
    assert "machine stockyard.default.foreign: " in done.stdout
    assert "changed=0 " in done.stdout


def test_the_command_says_the_same(controller: Controller, told: Played) -> None:
    environment = {
        **controller.environment,
        "PYTHONPATH": str(CHECKOUT / "plugins" / "module_utils"),
    }

    def run(*words: str) -> str:
        argv = [sys.executable, "-m", "stockyard.cli.main", *words]
        done = subprocess.run(
            argv, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    number = json.loads(run("lease", "take", "--fleet", "ci", "--duration", "1s", "--json"))["host"]
    time.sleep(1.5)
    assert f"would delete host {number}: its lease by " in run("reap", "--dry-run")
    answer = json.loads(run("reap", "--json", "--quiet"))
    assert answer["plan"][0].startswith(f"delete host {number}: ")
    assert answer["skipped_objects"][0]["name"] == "stockyard.default.foreign"
