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
def told(controller: Controller) -> Played:
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


def test_a_small_module_is_packed_in_their_place(told: Played, controller: Controller) -> None:
    files = [line.rpartition("/")[2] for line in told.stdout.splitlines() if PACKED in line]
    assert files == [*["run_here.py"] * 5, "template_info.py"]
    assert told["template"]["changed"] is True
    assert told["template"]["invocation"]["module_args"]["name"] == "docker"


def test_a_tasks_own_environment_reaches_the_module(told: Played) -> None:
    assert told["elsewhere"]["templates"][0]["name"] == "other"
    assert [t["name"] for t in told["found"]["templates"]] == ["docker", "third"]


def test_what_is_wrong_with_options_is_told_as_ever(told: Played) -> None:
    assert "nonsense" in told["bad"]["msg"]
    assert "template" in told["bad"]["msg"]


def test_it_is_of_no_use_in_a_play(told: Played) -> None:
    assert told["in a play"]["failed"] is True
    assert (
        told["in a play"]["msg"]
        == "It is for the action plugins of this collection, and not for plays."
    )
