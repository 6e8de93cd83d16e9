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
    """The hook of an update takes a second for each host."""
    hook = {"hook": ["sleep", "1"]}
    playbook = controller.write(
        [
            task("template", "template", name="docker"),
            task("fleet", "fleet", **FLEET, name="slow", count=2),
            task("rolled", "fleet", **FLEET, name="slow", count=2, ports=[8080], update=hook),
        ]
    )
    times: dict[str, float] = {}
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
            times[line.split(" (")[0].strip()] = time.monotonic()
    first, second = (
        times[f"[localhost] host {name}: hook completed"] for name in ("slow-1", "slow-2")
    )
    assert second - first > 0.5
    assert times["changed: [localhost]"] > second


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    own_file = controller.root / "mine"
    own_file.write_text("what was there\n")
    return controller.play(
        [
            task("template", "template", name="docker"),
            task("own file", "fleet", name="own", **FLEET, progress_file=str(own_file)),
            task("secret", "fleet", {"no_log": True}, name="secret", **FLEET),
            task("async", "fleet", {"async": 60, "poll": 1}, name="async", **FLEET),
            task("loop", "fleet", {"loop": ["one", "two"]}, name="{{ item }}", **FLEET),
            task("check", "fleet", {"check_mode": True}, name="check", **FLEET),
            task("parallel", "fleet", name="many", count=8, **FLEET),
        ]
    )


def test_a_file_of_the_users_own_is_appended_to_and_shown(
    played: Played, controller: Controller
) -> None:
    lines = (controller.root / "mine").read_text().splitlines()
    assert lines[0] == "what was there"
    assert lines[1:] == played["own file"]["progress"]
    assert "what was there" not in played.stderr
    assert f"[localhost] {lines[1]}\n" in played.stderr


def test_nothing_is_shown_of_a_task_with_no_log(played: Played) -> None:
    assert "secret-1" not in played.output


def test_a_task_in_the_background_has_its_lines_in_the_result(played: Played) -> None:
    assert played["async"]["changed"] is True
    assert any("host async-1: ready" in line for line in played["async"]["progress"])
    assert "async-1" not in played.stderr


def test_each_item_of_a_loop_shows_its_own(played: Played) -> None:
    assert played.stderr.index("host one-1: ready") < played.stderr.index(
        "host two-1: started as instant fork"
    )


def test_check_mode_shows_none(played: Played) -> None:
    assert played["check"]["progress"] == []
    assert "check-1" not in played.stderr


def test_progress_lines_of_parallel_hosts_are_complete(played: Played) -> None:
    lines = [
        line.removeprefix("[localhost] ")
        for line in played.stderr.splitlines()
        if "host many-" in line
    ]
    assert sorted(lines) == sorted(played["parallel"]["progress"])
    assert len(lines) == 24
