# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks registry and build_push_dispose: what is refused before anything is made, and what
check mode says.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
def test_what_cannot_be_built_is_refused_first(
    controller: Controller, context: Path, wrong: dict[str, str]
) -> None:
    done = controller.run(
        PLAYBOOK, *DEMO, "-e", json.dumps({"build_context": str(context), **wrong})
    )
    assert done.returncode != 0
    assert "Give build_context" in done.output
    assert "Fork the host" not in done.output


def test_a_host_that_cannot_be_reached_is_taken_away(controller: Controller, context: Path) -> None:
    """Over a hypervisor without machines nothing answers, and the host goes all the same."""
    made = controller.run("stockyard.container_hosts.site", *DEMO)
    assert made.returncode == 0, made.output
    done = controller.run(
        PLAYBOOK, *DEMO, "-e", json.dumps({"build_context": str(context), "build_image": "a"})
    )
    assert done.returncode != 0
    assert done["Delete the host"]["changed"] is True
    assert done["Delete the host"]["plan"][0].startswith("delete host build-")


def test_a_mirror_of_what_is_no_registry_is_refused(controller: Controller) -> None:
    wrong = {"registry_on": "localhost", "registry_mirror_of": "file:///etc"}
    done = controller.run("stockyard.container_hosts.registry", "-e", json.dumps(wrong), "--check")
    assert done.returncode != 0
    assert "which is not https://registry.example" in done.output
