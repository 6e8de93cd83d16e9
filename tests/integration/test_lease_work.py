# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks of docs/leases.md that copy a work tree to a leased host and fetch its reports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.helpers import ssh_stand_in

from .conftest import CHECKOUT, Controller, task

MAKEFILE = "test:\n\tmkdir reports && echo passed > reports/result.xml && test -e input && false\n"


def documented_play() -> str:
    page = (CHECKOUT / "docs" / "leases.md").read_text(encoding="utf-8")
    blocks: list[str] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (block,) = (text for text in blocks if "hosts:" in text)
    return block


def test_documented_tasks_fetch_the_reports_of_a_failed_command(
    controller: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller.play(
        [
            task("template", "template", name="docker"),
            task("fleet", "fleet", name="ci", template="docker", count=1, max=2),
        ]
    )
    ssh_stand_in.install(monkeypatch, tmp_path / "bin", tmp_path / "home")
    work = tmp_path / "work"
    work.mkdir()
    (work / "Makefile").write_text(MAKEFILE)
    (work / "input").write_text("")
    play = tmp_path / "play.yml"
    play.write_text(yaml.safe_dump(yaml.safe_load(documented_play())))
    # The user of the template has no home on this machine.
    home = f"ansible_remote_tmp={tmp_path}/home/.ansible"
    result = controller.run(str(play), "-e", home)
    assert result.returncode != 0
    assert "Run the tests" in result.stdout, result.output
    assert (tmp_path / "home" / "stockyard-work" / "input").exists(), result.output
    assert (work / "reports" / "result.xml").read_text() == "passed\n", result.output
