# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The progress of long work is shown while it runs, where that can be, and is in the result in any
case.
"""

from __future__ import annotations

import subprocess
import time

import pytest

from .conftest import Controller, Played, task

FLEET = {"template": "docker"}


def test_lines_come_while_the_task_runs(controller: Controller) -> None:
    # Between warm-up and freeze the template is left alone for a second.
    playbook = controller.write([task("template", "template", name="docker")])
    seen: dict[str, float] = {}
    with subprocess.Popen(
        ["ansible-playbook", playbook],
        cwd=controller.home,
        env=controller.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        for line in running.stdout or ():
            seen[line.split(" (")[0].strip()] = time.monotonic()
    warm, frozen = (
        seen[f"[localhost] template docker: {stage}"]
        for stage in ("wait for Docker and warm up", "frozen")
    )
    assert frozen - warm > 0.5
    assert seen["changed: [localhost]"] > frozen


@pytest.fixture(scope="module")
def told(controller: Controller) -> Played:
    mine = controller.root / "mine"
    mine.write_text("what was there\n")
    return controller.play(
        [
            task("template", "template", name="docker"),
            task("own file", "fleet", name="own", **FLEET, progress_file=str(mine)),
            task("secret", "fleet", {"no_log": True}, name="secret", **FLEET),
            task("async", "fleet", {"async": 60, "poll": 1}, name="async", **FLEET),
            task("loop", "fleet", {"loop": ["one", "two"]}, name="{{ item }}", **FLEET),
            task("check", "fleet", {"check_mode": True}, name="check", **FLEET),
            task("parallel", "fleet", name="many", count=8, **FLEET),
        ]
    )


def test_a_file_of_the_users_own_is_appended_to_and_shown(
    told: Played, controller: Controller
) -> None:
    lines = (controller.root / "mine").read_text().splitlines()
    assert lines[0] == "what was there"
    assert lines[1:] == told["own file"]["progress"]
    assert "what was there" not in told.stderr
    assert f"[localhost] {lines[1]}\n" in told.stderr


def test_nothing_is_shown_of_a_task_with_no_log(told: Played) -> None:
    assert "secret-1" not in told.output


def test_a_task_in_the_background_has_its_lines_in_the_result(told: Played) -> None:
    assert told["async"]["changed"] is True
    assert any("host async-1: ready" in line for line in told["async"]["progress"])
    assert "async-1" not in told.stderr


def test_each_item_of_a_loop_shows_its_own(told: Played) -> None:
    assert told.stderr.index("host one-1: ready") < told.stderr.index(
        "host two-1: started as instant fork"
    )


def test_check_mode_shows_none(told: Played) -> None:
    assert told["check"]["progress"] == []
    assert "check-1" not in told.stderr


def test_no_line_is_lost_or_torn_when_hosts_are_made_at_once(told: Played) -> None:
    shown = [
        line.removeprefix("[localhost] ")
        for line in told.stderr.splitlines()
        if "host many-" in line
    ]
    assert sorted(shown) == sorted(told["parallel"]["progress"])
    assert len(shown) == 24
