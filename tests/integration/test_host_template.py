# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module template with a template from a host."""

from __future__ import annotations

import pytest

from .conftest import Controller, Played, task

pytestmark = pytest.mark.full
DRY = {"check_mode": True, "diff": True}
WARM = {"name": "warm", "from_host": "source"}
REASON = "it will be created from host source"


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    return controller.play(
        [
            task("template", "template", name="docker", memory_mib=2048),
            task("no host", "template", **WARM),
            task("no host, dry", "template", DRY, **WARM),
            task("source", "host", name="source", template="docker"),
            task("dry", "template", DRY, **WARM),
            task("warm", "template", **WARM),
            task("warm again", "template", DRY, **WARM),
            task("revision, dry", "template", DRY, **WARM, revision="2"),
            task("content", "template", **WARM, packages=["git"]),
            task("fleet", "fleet", name="web", template="docker", count=1),
            task("lease", "lease", fleet="web", holder="me"),
            task("leased", "template", name="of-web", from_host="web-1"),
            task("no source", "host", name="source", state="absent"),
            task("warm without source", "template", **WARM),
            task("host", "host", name="warm-1", template="warm"),
            task("templates", "template_info"),
        ]
    )


def test_check_mode_and_diff_name_the_host(played: Played) -> None:
    plan = [f"build template warm: it does not exist; {REASON}"]
    assert played["dry"]["plan"] == played["warm"]["plan"] == plan
    assert played["dry"]["diff"]["after"]["template warm"]["from_host"] == "source"
    (revision,) = played["revision, dry"]["plan"]
    assert revision == f"build template warm: its declaration changed; {REASON}"


def test_another_run_changes_nothing_with_or_without_the_host(played: Played) -> None:
    assert played["warm"]["changed"]
    for name in ("warm again", "warm without source"):
        assert played[name]["changed"] is False
        assert played[name]["template"]["generation"] == played["warm"]["template"]["generation"]


def test_hosts_of_the_template_are_ready(played: Played) -> None:
    assert played["host"]["host"]["ready"]
    assert played["host"]["host"]["template"] == "warm"
    templates = {item["name"]: item for item in played["templates"]["templates"]}
    assert (templates["docker"]["from_host"], templates["warm"]["from_host"]) == ("", "source")
    assert templates["warm"]["hardware"] == templates["docker"]["hardware"]
    assert set(templates) == {"docker", "warm"}


def test_an_impossible_template_is_refused_before_anything_changes(played: Played) -> None:
    kinds = {
        "no host": "NotFound",
        "no host, dry": "NotFound",
        "content": "InvalidInput",
        "leased": "OperationRefused",
    }
    assert {name: played[name]["error"]["kind"] for name in kinds} == kinds
    assert "leased by me" in played["leased"]["msg"]
