# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are suspended and resumed: the modules, the playbooks, and the console command."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from .conftest import CHECKOUT, Controller, Played, task

DRY = {"check_mode": True, "diff": True}
DIFF = {"diff": True}
WEB = {"name": "web", "template": "docker", "count": 2}
ONE = {"name": "one", "template": "docker"}
CONVERGE = "stockyard.container_hosts.yard : Converge the yard"
YARD = {"yard_templates": [{"name": "docker"}], "yard_fleets": [WEB]}


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    return controller.play(
        [
            task("template", "template", name="docker"),
            task("host", "host", **ONE),
            task("dry", "host", DRY, name="one", state="suspended"),
            task("suspended", "host", DIFF, name="one", state="suspended"),
            task("again", "host", name="one", state="suspended"),
            task("info", "host_info", name="one"),
            task("resumed", "host", **ONE),
            task("nothing", "host", **ONE, state="resumed"),
            task("fleet", "fleet", **WEB),
            task("lease", "lease", fleet="web", holder="me"),
            task("fleet dry", "fleet", DRY, name="web", state="suspended"),
            task("fleet suspended", "fleet", name="web", state="suspended"),
            task("refused", "host", name="web-1", state="suspended"),
            task("refused too", "host", name="web-2", state="suspended"),
            task("forced", "host", name="web-1", state="suspended", force=True),
            task("forced too", "host", name="web-2", state="suspended", force=True),
            task("member", "host", name="web-1", state="resumed"),
            task("fleet resumed", "fleet", **WEB),
            task("unknown", "host", name="none", state="suspended"),
        ]
    )


def test_host_is_suspended_and_resumed_once(played: Played) -> None:
    plan = ["suspend host one: it is declared suspended"]
    assert played["dry"]["plan"] == played["suspended"]["plan"] == plan
    diff = {
        "before": {"host one": {"state": "running"}},
        "after": {"host one": {"state": "suspended"}},
    }
    assert played["dry"]["diff"] == played["suspended"]["diff"] == diff
    assert played["suspended"]["host"]["state"] == "suspended"
    assert played["again"]["changed"] is False
    (host,) = played["info"]["hosts"]
    assert (host["state"], host["ready"]) == ("suspended", False)
    assert played["resumed"]["plan"] == ["resume host one: it is suspended"]
    before, after = played["host"]["host"], played["resumed"]["host"]
    assert (after["uuid"], after["identity"]) == (before["uuid"], before["identity"])
    assert after["ready"]
    assert played["nothing"]["changed"] is False
    assert played["unknown"]["error"]["kind"] == "NotFound"


def test_leased_member_of_a_fleet_is_suspended_by_force_only(played: Played) -> None:
    leased = played["lease"]["lease"]["host"]
    other_of = {"web-1": "web-2", "web-2": "web-1"}[leased]
    plan = [f"suspend host {other_of}: it is declared suspended"]
    assert played["fleet dry"]["plan"] == played["fleet suspended"]["plan"] == plan
    refused, forced = ("refused", "forced") if leased == "web-1" else ("refused too", "forced too")
    assert played[refused]["error"]["kind"] == "OperationRefused"
    assert "leased by me" in played[refused]["msg"]
    assert played[forced]["changed"] is True
    assert played["member"]["plan"] == ["resume host web-1: it is suspended"]
    assert played["fleet resumed"]["plan"] == ["resume host web-2: it is suspended"]


def test_playbooks_suspend_and_resume_a_yard(controller: Controller, played: Played) -> None:
    declaration = controller.root / "yard.yml"
    declaration.write_text(json.dumps(YARD))
    extra = ("-e", f"yard={declaration}")
    assert played["host"]["changed"]
    for changed in (True, False):
        run = controller.run("stockyard.container_hosts.suspend", *extra)
        assert run["Suspend all hosts"]["changed"] is changed, run.output
        assert run["Suspend all hosts"]["hosts"] == ["one", "web-1", "web-2"]
    site = controller.run("stockyard.container_hosts.site", *extra, "-e", "yard_prune=no")
    assert site[CONVERGE]["plan"] == [
        "resume host web-1: it is suspended",
        "resume host web-2: it is suspended",
    ], site.output
    declaration.write_text(json.dumps({**YARD, "yard_fleets": [{**WEB, "state": "suspended"}]}))
    site = controller.run("stockyard.container_hosts.site", *extra, "-e", "yard_prune=no")
    assert len(site[CONVERGE]["plan"]) == 1, site.output


def test_hosts_with_encrypted_volumes_are_shut_down_and_started(controller: Controller) -> None:
    declaration = controller.root / "safe.yml"
    security, volumes = {"encrypted_data": True}, [{"name": "{host}-docker"}]
    declared = {
        "yard_owner": "safes",
        "yard_volume_key": "0f1e2d3c4b5a69788796a5b4c3d2e1ff",
        "yard_templates": [{"name": "sealed", "docker": "stopped", "security": security}],
        "yard_fleets": [{"name": "safe", "template": "sealed", "count": 1, "volumes": volumes}],
    }
    declaration.write_text(json.dumps(declared))
    extra = ("-e", f"yard={declaration}")
    controller.run("stockyard.container_hosts.site", *extra)
    run = controller.run("stockyard.container_hosts.suspend", *extra)
    reason = "its memory contains the key of encrypted volume safe-1-docker"
    assert run["Suspend all hosts"]["plan"] == [
        f"stop host safe-1: the yard is suspended, and {reason}"
    ], run.output
    site = controller.run("stockyard.container_hosts.site", *extra)
    assert site[CONVERGE]["plan"] == ["start host safe-1: it is off"], site.output
    controller.run("stockyard.container_hosts.teardown", *extra)


def test_command_suspends_and_resumes(controller: Controller, played: Played) -> None:
    assert played["host"]["changed"]

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stockyard.cli.main", *arguments, "--quiet"],
            cwd=controller.home,
            env={
                **controller.environment,
                "PYTHONPATH": str(CHECKOUT / "plugins" / "module_utils"),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    command("host", "resume", "--all")
    planned = command("host", "suspend", "one", "--dry-run")
    assert planned.stdout == "would suspend host one: it is declared suspended\n", planned.stderr
    assert command("host", "suspend", "one").stdout == planned.stdout.removeprefix("would ")
    assert command("host", "resume", "one").stdout == "resume host one: it is suspended\n"
    listed = command("lease", "list")
    number, _until, _host, _holder = listed.stdout.split()
    assert command("lease", "suspend", number).returncode == 0
    assert command("lease", "resume", number).returncode == 0
    all_result = command("host", "suspend", "--all")
    assert all_result.stdout.count("the yard is suspended") == 3
    assert command("host", "resume", "--all").stdout.count("resume host") == 3
    assert command("host", "suspend").returncode == 2
    assert command("host", "suspend", "one", "--all").returncode == 2
