# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A yard's life with the oldest ansible-core that the collection says it works with."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from .conftest import CHECKOUT, Controller

VERSION = "2.18.0"
WORK = CHECKOUT / "build" / "oldest"
PATIENCE = 900
SITE, TEARDOWN = "stockyard.container_hosts.site", "stockyard.container_hosts.teardown"
DEMO = ("-e", f"yard={CHECKOUT}/examples/yard.yml")


class OldController(Controller):
    """A user's machine with the oldest ansible-core, and the libraries of this environment."""

    def __init__(self, root: Path, core: Path) -> None:
        super().__init__(root)
        self.core = core

    @property
    def environment(self) -> dict[str, str]:
        environment = super().environment
        return {
            **environment,
            "PYTHONPATH": str(self.core),
            "PATH": f"{self.core / 'bin'}:{environment['PATH']}",
        }


@pytest.fixture(scope="module")
def core() -> Path:
    """Where it is: fetched once, as pip is set to."""
    ready = WORK / VERSION
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=WORK) as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            pip = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
            ]
            line = [*pip, "--target", f"{folder}/core", f"ansible-core=={VERSION}"]
            subprocess.run(line, check=True, timeout=PATIENCE)
            shutil.move(f"{folder}/core", ready)
    return ready


@pytest.fixture(scope="module")
def old(core: Path, tmp_path_factory: pytest.TempPathFactory) -> OldController:
    return OldController(tmp_path_factory.mktemp("old"), core)


def test_oldest_ansible_is_that_of_the_collection(old: OldController) -> None:
    assert (
        yaml.safe_load((CHECKOUT / "meta" / "runtime.yml").read_text())["requires_ansible"]
        == f">={VERSION}"
    )
    version = subprocess.run(
        ["ansible", "--version"], env=old.environment, capture_output=True, text=True, check=True
    )
    assert f"[core {VERSION}]" in version.stdout


def test_a_yard_from_nothing_to_nothing(old: OldController) -> None:
    first_run = old.run(SITE, *DEMO)
    assert first_run.returncode == 0, first_run.output
    assert '"web-3  ssh ' in first_run.stdout
    second_run = old.run(SITE, *DEMO)
    assert "changed=0 " in second_run.stdout, second_run.output
    for playbook in ("rebuild", "report"):
        result = old.run(f"stockyard.container_hosts.{playbook}", *DEMO)
        assert result.returncode == 0, result.output
    assert old.run(TEARDOWN, *DEMO, "-e", "teardown_templates=true").returncode == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "There is no declaration"),
        ("yard_ower: mine\n", "yard_ower is not known"),
        ("yard_templates: [{name: docker, memory: 1}]\n", "memory"),
        ("yard_fleets: [{name: web, template: none}]\n", "the declaration needs template none"),
    ],
)
def test_errors_are_reported_by_the_oldest_ansible(
    old: OldController, text: str | None, message: str
) -> None:
    declaration = old.home / "wrong.yml"
    declaration.unlink(missing_ok=True)
    if text is not None:
        declaration.write_text(text)
    result = old.run(SITE, "-e", f"yard={declaration}")
    assert "No declaration is named" in old.run(SITE).output
    assert result.returncode != 0
    assert message in result.output
    assert "Traceback" not in result.output


def test_the_inventory_is_read(old: OldController) -> None:
    source = old.home / "a.stockyard.yml"
    source.write_text(
        f"plugin: stockyard.container_hosts.hosts\nowner: demo\nhypervisor: {old.hypervisor}\n"
    )
    assert old.run(SITE, *DEMO).returncode == 0
    line = ["ansible-inventory", "-i", str(source), "--list"]
    result = subprocess.run(
        line, env={**os.environ, **old.environment}, capture_output=True, text=True, check=True
    )
    assert sorted(json.loads(result.stdout)["_meta"]["hostvars"]) == ["web-1", "web-2", "web-3"]
