# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of an update, as the module fleet takes them."""

from __future__ import annotations

import pytest

from .conftest import Controller, Played, task

WEB = {"name": "web", "template": "docker"}
PORTS = {"ports": [8080]}


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    hook = ["sh", "-c", f"echo $STOCKYARD_HOST $DOCKER_HOST >>{controller.root}/hook"]
    return controller.play(
        [
            task("template", "template", name="docker"),
            task("fleet", "fleet", **WEB, count=2),
            task("rolled", "fleet", **WEB, **PORTS, count=2, update={"hook": hook}),
            task("rolled again", "fleet", **WEB, **PORTS, count=2, update={"hook": hook}),
            task("recreated", "fleet", **WEB, count=2, update={"strategy": "recreate"}),
            task("refused", "fleet", **WEB, **PORTS, count=2, update={"hook": ["false"]}),
            task("named", "fleet", **WEB, names=["web-1", "mail"]),
            task("named again", "fleet", **WEB, names=["web-1", "mail"]),
            task("cattle", "fleet", **WEB, names=["web-1", "mail"], recreate="always"),
            task("none", "fleet", **WEB, names=[]),
            task("both", "fleet", **WEB, names=["a"], count=2),
            task("nonsense", "fleet", **WEB, update={"max_surge": 0, "max_unavailable": 0}),
            task("typo", "fleet", **WEB, update={"max_surged": 1}),
        ]
    )


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("rolled", ["create web-3", "delete web-1", "create web-1", "delete web-2"]),
        ("rolled again", []),
        ("recreated", ["replace web-1", "replace web-3"]),
        ("named", ["delete web-2", "delete web-3", "create mail"]),
        ("named again", []),
        ("cattle", ["replace mail", "replace web-1"]),
        ("none", ["delete mail", "delete web-1"]),
    ],
)
def test_plan_of_a_rollout_is_returned(played: Played, name: str, plan: list[str]) -> None:
    assert [" ".join(line.replace(":", "").split()[:3:2]) for line in played[name]["plan"]] == plan
    assert played[name]["changed"] == bool(plan)


def test_the_hook_ran_for_those_that_went(played: Played, controller: Controller) -> None:
    old = {h["name"]: h["docker"]["endpoint"] for h in played["fleet"]["hosts"]}
    assert (controller.root / "hook").read_text().splitlines() == [
        f"{name} {old[name]}" for name in ("web-1", "web-2")
    ]


def test_a_hook_that_fails_stops_the_rollout(played: Played) -> None:
    assert played["refused"]["failed"]
    assert played["refused"]["error"]["kind"] == "OperationRefused"
    assert "actions were skipped" in played["refused"]["error"]["remedy"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("both", "mutually exclusive"),
        ("nonsense", "no host could be replaced"),
        ("typo", "max_surged"),
    ],
)
def test_nonsense_is_refused(played: Played, name: str, text: str) -> None:
    assert text in played[name]["msg"]
