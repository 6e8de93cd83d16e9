# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module yard with a declaration: taken whole, or refused before anything is made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Controller, Played, task

WEB = {"name": "web", "template": "docker"}
DOCKER = {"name": "docker", "max_age": "30d"}
YARD = {"templates": [DOCKER], "fleets": [WEB]}
DRY = {"check_mode": True, "diff": True}
REFUSED = {
    "unknown option": ({"fleets": [{**WEB, "cuont": 3}]}, "cuont"),
    "unknown list": ({"fleet": [WEB]}, "fleet is not known"),
    "no list": ({"fleets": {"web": WEB}}, "fleets is no list"),
    "no mapping": ({"fleets": ["web"]}, "is no mapping"),
    "no name": ({"templates": [{}]}, "name"),
    "no template": ({"fleets": [{"name": "web"}]}, "template name"),
    "twice": ({"templates": [DOCKER], "fleets": [WEB, WEB]}, "declared twice"),
    "wrong type": ({"fleets": [{**WEB, "count": "many"}]}, "count"),
    "contradiction": ({"fleets": [{**WEB, "count": 2, "names": ["a"]}]}, "count is 2"),
    "bad age": ({"templates": [{"name": "docker", "max_age": "soon"}]}, "max_age"),
    "not here": (
        {"fleets": [{**WEB, "hypervisors": [{"name": "east"}]}]},
        "not among the fleet's hypervisors",
    ),
}


def declared(
    name: str, declaration: object, keywords: dict[str, Any] | None = None, **options: object
) -> dict[str, Any]:
    return task(name, "yard", keywords or {}, state="present", declaration=declaration, **options)


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    plan = str(controller.root / "plan.json")
    return controller.play(
        [
            *(declared(name, declaration) for name, (declaration, _text) in REFUSED.items()),
            task("nothing", "yard", state="present"),
            declared("dry", YARD, DRY, save_plan=plan),
            declared("made", YARD, apply_plan=plan),
            declared("made again", YARD),
            declared("stale", YARD, apply_plan=plan),
            declared("empty", {}, prune=True),
            declared("null", {"fleets": None, "templates": None}, prune="yes"),
            declared(
                "absent", {"templates": [DOCKER], "fleets": [{"name": "web", "state": "absent"}]}
            ),
            declared("forced", {}, prune="force"),
        ]
    )


@pytest.mark.parametrize("name", list(REFUSED))
def test_invalid_declaration_is_refused_before_any_change(played: Played, name: str) -> None:
    assert played[name]["failed"]
    assert REFUSED[name][1] in played[name]["msg"]


def test_missing_declaration_is_refused(played: Played) -> None:
    assert "declaration" in played["nothing"]["msg"]


def test_saved_plan_is_applied(played: Played, controller: Controller) -> None:
    assert played["dry"]["plan"] == [
        "build template docker: it does not exist",
        "create host web-1: the fleet has 0 of 1 hosts",
    ]
    assert sorted(played["dry"]["diff"]["after"]) == ["host web-1", "template docker"]
    assert played["made"]["plan"] == played["dry"]["plan"]
    assert played["made"]["hosts"] == [h["name"] for h in played["made"]["members"]] == ["web-1"]
    assert not played["made again"]["changed"]
    assert played["stale"]["error"]["kind"] == "OperationRefused"
    assert json.loads((controller.root / "plan.json").read_text())["owner"] == "stockyard"


def test_undeclared_objects_are_deleted_only_with_prune(played: Played) -> None:
    assert not played["empty"]["changed"]
    assert not played["null"]["changed"]
    assert played["absent"]["plan"] == ["delete host web-1: it is declared absent"]
    assert played["forced"]["plan"] == ["delete template docker: it is no longer declared"]
