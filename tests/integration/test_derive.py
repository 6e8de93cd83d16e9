# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derived templates in a declared yard: the playbooks site and rebuild, and the module template."""

from __future__ import annotations

import json
from typing import Any

from .conftest import Controller, Played, task

SITE, REBUILD = "stockyard.container_hosts.site", "stockyard.container_hosts.rebuild"
STEP = "stockyard.container_hosts.yard : Converge the yard"
LEVELS: list[dict[str, Any]] = [
    {"name": "app", "from": "jdk", "files": {"/etc/app": "1\n"}},
    {"name": "jdk", "from": "docker", "packages": ["default-jdk-headless"]},
    {"name": "docker", "memory_mib": 2048},
]


def declare(controller: Controller, templates: list[dict[str, Any]]) -> None:
    declaration = {
        "yard_templates": templates,
        "yard_fleets": [{"name": "web", "template": "app", "count": 2}],
    }
    (controller.home / "yard.yml").write_text(json.dumps(declaration))


def plan(played: Played) -> list[str]:
    assert played.returncode == 0, played.output
    return [line.split(":")[0] for line in played[STEP]["plan"]]


def test_site_builds_parents_first_and_rebuilds_children_with_them(controller: Controller) -> None:
    declare(controller, LEVELS)
    yard = ("-e", f"yard={controller.home}/yard.yml")
    builds = ["build template docker", "build template jdk", "build template app"]
    assert plan(controller.run(SITE, *yard, "--check"))[:3] == builds
    first_run = controller.run(SITE, *yard)
    assert plan(first_run)[:3] == builds
    assert {host["template"] for host in first_run[STEP]["members"]} == {"app"}
    assert plan(controller.run(SITE, *yard)) == []
    # Later packages of the first level lead to new generations of all.
    mirror = controller.root / "yard.json.d" / "mirror.json"
    mirror.write_text(json.dumps({"docker.io": "2"}))
    second_run = controller.run(REBUILD, *yard)
    assert second_run.returncode == 0, second_run.output
    assert plan(controller.run(SITE, *yard)) == []
    look = controller.play([task("look", "template_info", {})])
    current = {item["name"]: item for item in look["look"]["templates"]}
    assert {name: item["parent"] for name, item in current.items()} == {
        "docker": "",
        "jdk": "docker",
        "app": "jdk",
    }
    for child, parent in (("jdk", "docker"), ("app", "jdk")):
        assert current[child]["parent_generation"] == current[parent]["generation"]
        assert current[child]["hardware"]["memory_mib"] == 2048


def test_site_refuses_impossible_levels_before_anything_changes(controller: Controller) -> None:
    yard = ("-e", f"yard={controller.home}/yard.yml")
    before = controller.state.read_bytes() if controller.state.exists() else b""
    circle = [{"name": "a", "from": "b"}, {"name": "b", "from": "a"}]
    for templates, message in (
        ([*LEVELS, *circle], "derived from itself, through other templates"),
        ([*LEVELS, {"name": "x", "from": "unknown"}], "needs template unknown"),
        ([*LEVELS, {"name": "x", "from": "app", "vcpus": 3}], "vcpus is 3, and 1 in template app"),
        ([*LEVELS, {"name": "x", "from": "app", "security": {"profile": "hostile"}}], "security"),
    ):
        declare(controller, templates)
        played = controller.run(SITE, *yard)
        assert played.returncode != 0
        assert message in played.output
    assert (controller.state.read_bytes() if controller.state.exists() else b"") == before
