# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option provision of the module template, and of a whole yard: over a hypervisor without
machines.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from stockyard import GuestError
from stockyard.clock import Deadline
from stockyard.model.provision import Provision
from stockyard.model.template import Hardware, TemplateRecord
from stockyard.resources.templates.playbook import SshTarget, play, workshop

from .conftest import TOOLS, Controller, Played, task

DRY = {"check_mode": True, "diff": True}
RUNS = "; playbook template.yml will run in it"


def write(folder: Path, tasks: list[dict[str, object]]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "template.yml"
    path.write_text(json.dumps([{"hosts": "template", "tasks": tasks}]))
    return str(path)


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    good = write(controller.root / "good", [{"ansible.builtin.command": "true"}])
    bad = write(controller.root / "bad", [{"ansible.builtin.no_such_module": {}}])
    role = controller.root / "role"
    (role / "tasks").mkdir(parents=True)
    (role / "tasks" / "main.yml").write_text("[]")
    return controller.play(
        [
            task("both", "template", name="t", provision={"playbook": good, "roles": [str(role)]}),
            task("neither", "template", name="t", provision={"variables": {"a": 1}}),
            task(
                "elsewhere",
                "template",
                name="t",
                provision={"playbook": good, "variables": {"ansible_host": "x"}},
            ),
            task("not there", "template", DRY, name="t", provision={"playbook": good + "x"}),
            task(
                "dry",
                "template",
                DRY,
                name="t",
                provision={"playbook": good, "variables": {"a": 1}},
            ),
            task("made", "template", name="t", provision={"playbook": good, "variables": {"a": 1}}),
            task(
                "again", "template", name="t", provision={"playbook": good, "variables": {"a": 1}}
            ),
            task(
                "other",
                "template",
                DRY,
                name="t",
                provision={"playbook": good, "variables": {"a": 2}},
            ),
            task("broken", "template", name="broken", provision={"playbook": bad}),
            task("nothing of it", "template_info", name="broken"),
            task("roles", "template", name="r", provision={"roles": [str(role)]}),
            task("info", "template_info", name="r"),
        ]
    )


def test_invalid_provision_is_refused(played: Played) -> None:
    assert "mutually exclusive" in played["both"]["msg"]
    assert "one of the following is required" in played["neither"]["msg"]
    assert "Ansible's own variable" in played["elsewhere"]["msg"]
    assert "provision: the playbook does not exist" in played["not there"]["msg"]


def test_check_mode_announces_the_playbook(played: Played) -> None:
    assert (
        played["dry"]["plan"]
        == played["made"]["plan"]
        == [f"build template t: it does not exist{RUNS}"]
    )
    assert played["dry"]["diff"]["after"]["template t"]["provision"] == "playbook template.yml"
    assert played["made"]["template"]["provision"] == "playbook template.yml"
    assert played["again"]["changed"] is False
    assert played["other"]["plan"] == [f"build template t: its declaration changed{RUNS}"]


def test_failed_playbook_freezes_nothing_and_is_reported(played: Played) -> None:
    assert played["broken"]["error"]["kind"] == "GuestError"
    assert "no_such_module" in played["broken"]["msg"]
    assert played["nothing of it"]["templates"] == []


def test_roles_are_run_too(played: Played) -> None:
    assert played["info"]["templates"][0]["provision"] == "roles role"


def test_yard_declaration_accepts_provision(controller: Controller, tmp_path: Path) -> None:
    book = write(tmp_path / "book", [])
    declared = {
        "yard_owner": "site",
        "yard_fleets": [],
        "yard_templates": [{"name": "y", "provision": {"playbook": book}}],
    }
    file = tmp_path / "yard.json"
    file.write_text(json.dumps(declared))
    result = controller.run("stockyard.container_hosts.site", "-e", f"yard={file}")
    assert result.returncode == 0, result.output
    assert f"build template y: it does not exist{RUNS}" in result.output


@pytest.mark.parametrize("hosts", ["web", "template:web"])
def test_a_play_for_others_is_an_error_and_is_not_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hosts: str
) -> None:
    """Ansible itself says so, before it reaches for anything."""
    monkeypatch.setenv("PATH", f"{TOOLS}:{os.environ['PATH']}")
    book = tmp_path / "book.yml"
    book.write_text(json.dumps([{"hosts": hosts, "gather_facts": False, "tasks": []}]))
    digest = "a" * 64
    record = TemplateRecord(
        "me",
        "default",
        "base",
        "7f6ee7d0-4a3f-4e2a-9d0b-3f2f5c1c2a11",
        digest,
        digest,
        digest,
        Hardware(),
        "running",
        "stockyard",
        "booting",
        1.0,
        "52:54:00:00:00:01",
    )
    with workshop() as work:
        work.public_key()
        with pytest.raises(GuestError, match="Could not match supplied host pattern"):
            play(
                Provision(str(book)),
                SshTarget("nobody", "127.0.0.1", 9),
                work,
                record,
                Deadline(60),
            )
