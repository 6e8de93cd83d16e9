# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The projects of a lease service, and their file."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard import Busy, InvalidInput, NotFound, files
from stockyard.clock import Deadline
from stockyard.service import projects
from stockyard.service.projects import Project, Projects
from tests.helpers.clocks import FakeClock

TOKEN = projects.new_token()
WEB = Project("web", projects.digest_of(TOKEN), fleets=("ci",))


def test_file_contains_no_token_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "projects.json"
    projects.write(path, Projects((WEB,)))
    assert path.stat().st_mode & 0o777 == 0o600
    assert TOKEN not in path.read_text()
    assert projects.read(path).find(TOKEN) == WEB
    assert projects.read(path).find(TOKEN + "x") is None
    assert projects.read(path).find("") is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_file_of_other_users_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "projects.json"
    projects.write(path, Projects((WEB,)))
    path.chmod(mode)
    with pytest.raises(InvalidInput, match=r"other users can read or change the file.*chmod 600"):
        projects.read(path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"projects": [{"name": "web"}]}'])
def test_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "projects.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InvalidInput):
        projects.read(path)


def test_missing_file_and_directory_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InvalidInput):
            projects.read(path)


def test_project_is_replaced_and_removed() -> None:
    new_token = projects.new_token()
    replaced = Projects((WEB,)).with_project(
        Project("web", projects.digest_of(new_token), fleets=("ci",))
    )
    assert replaced.find(TOKEN) is None
    assert replaced.find(new_token)
    assert replaced.without("web").projects == ()
    with pytest.raises(NotFound):
        replaced.without("api")


def test_project_without_any_right_is_refused() -> None:
    with pytest.raises(InvalidInput, match="neither lease hosts nor read the report"):
        Project("web", projects.digest_of(TOKEN))


def test_holders_of_a_project_begin_with_its_name() -> None:
    assert WEB.holder("job-1") == "web/job-1"
    assert WEB.owns("web/job-1")
    assert not WEB.owns("web-2/job-1")
    for holder in ("", " ", "a\nb", "x" * 98):
        with pytest.raises(InvalidInput):
            WEB.holder(holder)


def test_changes_at_the_same_time_follow_one_another(tmp_path: Path) -> None:
    path = tmp_path / "new" / "projects.json"
    names = [f"web-{number}" for number in range(8)]

    def add(name: str) -> None:
        def edit(existing: Projects) -> Projects:
            # Without a lock, all threads would read the file before the first one writes.
            time.sleep(0.02)
            return existing.with_project(replace(WEB, name=name))

        projects.change(path, edit)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(add, names))
    assert sorted(project.name for project in projects.read(path).projects) == names


def test_change_waits_for_another_process_until_its_deadline(tmp_path: Path) -> None:
    path, clock = tmp_path / "projects.json", FakeClock()
    projects.write(path, Projects((WEB,)))
    handle = files.lock(path)
    assert handle is not None
    try:
        with pytest.raises(Busy, match="locked by another process"):
            projects.change(path, lambda existing: existing.without("web"), Deadline(20, clock))
    finally:
        os.close(handle)
    assert projects.read(path).projects == (WEB,)
    projects.change(path, lambda existing: existing.without("web"))
    assert projects.read(path).projects == ()
