# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example pipelines: their steps, run one after the other in a checkout, over the memory
hypervisor.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from stockyard import Yard

from .conftest import CHECKOUT, PATIENCE, Controller

PIPELINES = CHECKOUT / "examples" / "pipelines"
WEB = {"name": "web", "template": "docker", "count": 2}
YARD = {"yard_templates": [{"name": "docker"}], "yard_fleets": [WEB]}


def github(job: str) -> list[str]:
    job_definition = yaml.safe_load((PIPELINES / "github-actions.yml").read_text())["jobs"][job]
    return [step["run"] for step in job_definition["steps"] if "run" in step]


def gitlab(job: str) -> list[str]:
    return list(yaml.safe_load((PIPELINES / "gitlab-ci.yml").read_text())[job]["script"])


def jenkins(job: str) -> list[str]:
    text = (PIPELINES / "Jenkinsfile").read_text()
    stage = text.partition(f"stage('{job.capitalize()}')")[2].partition("stage('")[0]
    matches = re.findall(r"sh (?:'''(.*?)'''|'(.*?)')", stage, re.DOTALL)
    # A backslash at the end of a line is gone when Groovy hands the text over.
    return [(several or single).replace("\\\n", "") for several, single in matches]


SYSTEMS = pytest.mark.parametrize("steps", [github, gitlab, jenkins])


class Checkout:
    """A checkout on a runner."""

    def __init__(self, controller: Controller, folder: Path) -> None:
        self.folder = folder
        self.hypervisor = f"memory://{folder}/hypervisor"
        self.environment = {
            **controller.environment,
            "PWD": str(folder),
            "STOCKYARD_HYPERVISOR": self.hypervisor,
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        }
        self.declare(YARD)

    def declare(self, yard: object) -> None:
        (self.folder / "yard.yml").write_text(json.dumps(yard))

    def run(self, steps: list[str]) -> tuple[int, str]:
        """Run steps as a runner does, up to the first that fails."""
        output = ""
        assert steps
        for step in steps:
            result = subprocess.run(
                ["sh", "-e", "-c", step],
                cwd=self.folder,
                env=self.environment,
                check=False,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                stdin=subprocess.DEVNULL,
            )
            output += result.stdout + result.stderr
            if result.returncode:
                return result.returncode, output
        return 0, output

    def hosts(self) -> list[str]:
        with Yard(self.hypervisor, pki_dir=str(self.folder / "pki")) as yard:
            return [h.name for h in yard.hosts.list()]


@SYSTEMS
def test_pipeline_plans_and_applies_a_yard(
    controller: Controller, tmp_path: Path, steps: object
) -> None:
    assert callable(steps)
    checkout = Checkout(controller, tmp_path)
    code, output = checkout.run(steps("plan"))
    assert code == 0, output
    assert checkout.hosts() == []
    assert "| create | host web-2 |" in output + "".join(
        p.read_text() for p in tmp_path.glob("summary.md")
    )
    code, output = checkout.run(steps("apply"))
    assert code == 0, output
    assert checkout.hosts() == ["web-1", "web-2"]
    # Applied a second time it is no longer true, and nothing happens.
    code, output = checkout.run(steps("apply"))
    assert code != 0
    assert "no longer matches the yard" in output
    assert checkout.hosts() == ["web-1", "web-2"]


def test_pipeline_prunes_removed_objects_but_not_an_empty_checkout(
    controller: Controller, tmp_path: Path
) -> None:
    checkout = Checkout(controller, tmp_path)
    checkout.declare({**YARD, "yard_fleets": [WEB, {"name": "old", "template": "docker"}]})
    site = "ansible-playbook stockyard.container_hosts.site -e yard=yard.yml"
    assert checkout.run([site])[0] == 0
    assert checkout.hosts() == ["old-1", "web-1", "web-2"]
    checkout.declare(YARD)
    assert checkout.run([f"{site} -e yard_prune=no"])[0] == 0
    assert checkout.hosts() == ["old-1", "web-1", "web-2"]
    code, output = checkout.run([site])
    assert code != 0
    assert "not declared: fleet old" in output
    assert checkout.hosts() == ["old-1", "web-1", "web-2"]
    steps = [f"{site} --check -e yard_save_plan=plan.json", f"{site} -e yard_apply_plan=plan.json"]
    assert checkout.run(steps)[0] == 0
    assert checkout.hosts() == ["web-1", "web-2"]
    for text in ("", "{}", "yard_fleets: []", "yard_fleet: []", "{", "[]"):
        (tmp_path / "yard.yml").write_text(text)
        checkout.run([site])
        assert checkout.hosts() == ["web-1", "web-2"], text
    (tmp_path / "yard.yml").unlink()
    assert checkout.run([site])[0] != 0
    assert checkout.hosts() == ["web-1", "web-2"]
    checkout.declare({})
    assert checkout.run([f"{site} -e yard_prune=force"])[0] == 0
    assert checkout.hosts() == []


def test_a_yard_is_rebuilt_from_later_packages(controller: Controller, tmp_path: Path) -> None:
    checkout = Checkout(controller, tmp_path)
    assert (
        checkout.run(["ansible-playbook stockyard.container_hosts.site -e yard=yard.yml"])[0] == 0
    )
    (tmp_path / "hypervisor.d" / "mirror.json").write_text('{"docker.io": "2"}')
    (rebuild,) = gitlab("rebuild")
    code, output = checkout.run([f"{rebuild} --check --diff"])
    assert code == 0, output
    assert "build template docker: package updates: docker.io 1 -> 2" in output
    assert "delete host web-1: generation changed" in output
    assert checkout.hosts() == ["web-1", "web-2"]
    with Yard(checkout.hypervisor, pki_dir=str(tmp_path / "pki")) as yard:
        assert all(h.missing_updates for h in yard.hosts.list(check_updates=True))
        code, output = checkout.run([rebuild])
        assert code == 0, output
        assert [h.missing_updates for h in yard.hosts.list(check_updates=True)] == [(), ()]
    code, output = checkout.run([rebuild])
    assert "changed=0" in output
