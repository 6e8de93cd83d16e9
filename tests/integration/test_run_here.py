# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that run on the controller are not packed: they are run out of the collection's own
directory.
"""

from __future__ import annotations

import pytest

from .conftest import Controller, Played, task

PACKED = "Using module file"


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    elsewhere = {
        "environment": {
            "STOCKYARD_HYPERVISOR": f"memory://{controller.root}/elsewhere",
            "OTHER": "{{ 1 + 1 }}",
        }
    }
    hostile = {"environment": {"STOCKYARD_RUN_MODULE": "reap", "STOCKYARD_RUN_PLUGINS": "/nowhere"}}
    return controller.play(
        [
            task("template", "template", name="docker"),
            task("elsewhere", "template", elsewhere, name="other"),
            task("hostile", "template", hostile, name="third"),
            task("bad", "template", name="docker", nonsense=1),
            task("in a play", "run_here"),
            task("found", "template_info"),
        ],
        "-vvv",
    )


def test_a_small_module_is_packed_in_their_place(played: Played, controller: Controller) -> None:
    files = [line.rpartition("/")[2] for line in played.stdout.splitlines() if PACKED in line]
    assert files == [*["run_here.py"] * 5, "template_info.py"]
    assert played["template"]["changed"] is True
    assert played["template"]["invocation"]["module_args"]["name"] == "docker"


def test_a_tasks_own_environment_reaches_the_module(played: Played) -> None:
    assert played["elsewhere"]["templates"][0]["name"] == "other"
    assert [t["name"] for t in played["found"]["templates"]] == ["docker", "third"]


def test_invalid_options_are_reported_as_without_the_option(played: Played) -> None:
    assert "nonsense" in played["bad"]["msg"]
    assert "template" in played["bad"]["msg"]


def test_run_here_is_refused_as_a_task(played: Played) -> None:
    assert played["in a play"]["failed"] is True
    assert (
        played["in a play"]["msg"]
        == "It is for the action plugins of this collection, and not for plays."
    )
