# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks registry and build_push_dispose: what is refused before anything is made, and what
check mode says.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from .conftest import CHECKOUT, Controller

PLAYBOOK = "stockyard.container_hosts.build_push_dispose"
DEMO = ("-e", f"yard={CHECKOUT}/examples/yard.yml")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    return tmp_path


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"build_image": "Up/Case"},
        {"build_image": "a;reboot"},
        {"build_image": "a", "build_context": "/nowhere"},
        {"build_image": "a", "build_registry": "a:5000 -o x=y"},
    ],
)
def test_invalid_build_is_refused_first(
    controller: Controller, context: Path, wrong: dict[str, str]
) -> None:
    result = controller.run(
        PLAYBOOK, *DEMO, "-e", json.dumps({"build_context": str(context), **wrong})
    )
    assert result.returncode != 0
    assert "Give build_context" in result.output
    assert "Fork the host" not in result.output


def test_unreachable_build_host_is_deleted(controller: Controller, context: Path) -> None:
    """Over a hypervisor without machines nothing answers, and the host goes all the same."""
    site_run = controller.run("stockyard.container_hosts.site", *DEMO)
    assert site_run.returncode == 0, site_run.output
    result = controller.run(
        PLAYBOOK, *DEMO, "-e", json.dumps({"build_context": str(context), "build_image": "a"})
    )
    assert result.returncode != 0
    assert result["Delete the host"]["changed"] is True
    assert result["Delete the host"]["plan"][0].startswith("delete host build-")


def test_mirror_of_an_invalid_registry_is_refused(controller: Controller) -> None:
    wrong = {"registry_on": "localhost", "registry_mirror_of": "file:///etc"}
    result = controller.run(
        "stockyard.container_hosts.registry", "-e", json.dumps(wrong), "--check"
    )
    assert result.returncode != 0
    assert "registry_mirror_of must be a URL without user name and password" in result.output


@pytest.mark.parametrize("mirror_of", ["", "https://registry.example"])
def test_files_of_a_mirror_are_deleted_when_it_is_not_declared(
    controller: Controller, tmp_path: Path, mirror_of: str
) -> None:
    """The tasks that delete files, with another root directory."""
    (play,) = yaml.safe_load((CHECKOUT / "playbooks" / "registry.yml").read_text())
    tasks = [task for task in play["tasks"] if task["name"].startswith("Delete ")]
    assert len(tasks) == 2
    path = tmp_path / "play.yml"
    values = {"hosts": "localhost", "gather_facts": False, "vars": play["vars"], "tasks": tasks}
    path.write_text(yaml.safe_dump([values]).replace("/etc/", f"{tmp_path}/etc/"))
    units, settings = tmp_path / "etc/systemd/system", tmp_path / "etc/docker/registry"
    files = [units / f"stockyard-registry-{name}.service" for name in ("push", "mirror")]
    files += [settings / f"stockyard-{name}" for name in ("push.yml", "mirror.yml", "mirror.env")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    result = controller.run(path, "-e", json.dumps({"registry_mirror_of": mirror_of}))
    assert result.returncode == 0, result.output
    remaining = {file.name for file in files if file.exists()}
    expected = {"stockyard-registry-push.service", "stockyard-push.yml"}
    if mirror_of:
        expected |= {"stockyard-registry-mirror.service", "stockyard-mirror.yml"}
    assert remaining == expected
