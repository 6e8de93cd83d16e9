# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``stockyard lease exec --sync DIR --fetch GLOB``: work in, results out."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from stockyard import Yard
from stockyard.clients.work_tree import REMOTE
from tests.helpers import ssh_stand_in

from .conftest import Console

EXEC = ("lease", "exec", "--fleet", "ci", "--holder", "me")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the host's user."""
    ssh_stand_in.install(monkeypatch, tmp_path / "bin", tmp_path / "home", rsync=False)
    return tmp_path / "home"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory with one file."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "input").write_text("41")
    return tmp_path / "work"


def test_command_runs_in_the_copy_and_its_results_come_back(
    real: Yard, console: Console, home: Path, work: Path
) -> None:
    script = "mkdir out && cat input > out/result && cat input > other; echo done; exit 7"
    words = ("--sync", str(work), "--fetch", "out/**", "--fetch", "no/*", "--", "sh", "-c", script)
    process = console.start(*EXEC, *words)
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (7, "done\n"), errors
    assert (home / REMOTE / "other").read_text() == "41"
    assert (work / "out" / "result").read_text() == "41"
    assert not (work / "other").exists()
    assert "has no rsync: the directory was copied with tar" in errors
    assert "1 files were fetched into" in errors
    assert (real.leases.list(), len(real.hosts.list())) == ((), 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sync", "/does/not/exist"), "cannot be read"),
        (("--sync", "/"), "root directory"),
        (("--sync", ".", "--fetch", "../x"), "leaves the directory"),
        (("--sync", ".", "--fetch", "/etc/*"), "leaves the directory"),
        (("--sync", ".", "--fetch", ""), "is empty"),
        (("--fetch", "x"), "--fetch needs a directory"),
    ],
)
def test_bad_path_is_refused_before_a_host_is_leased(
    real: Yard, console: Console, words: tuple[str, ...], message: str
) -> None:
    before = {host.uuid for host in real.hosts.list()}
    code, _output, errors = console(*EXEC, *words, "--", "true")
    assert code == 125
    assert message in errors
    assert "leased by" not in errors
    assert {host.uuid for host in real.hosts.list()} == before


def test_failed_copy_ends_with_an_error_and_releases_the_host(
    real: Yard, console: Console, home: Path, work: Path
) -> None:
    home.rmdir()
    code, _output, errors = console(*EXEC, "--sync", str(work), "--", "true")
    assert code == 125
    assert "ssh failed with code 255" in errors
    assert real.leases.list() == ()


@pytest.mark.parametrize(("exit_code", "code"), [(0, 125), (3, 3)])
def test_failed_fetch_does_not_hide_the_code_of_the_command(
    real: Yard, console: Console, home: Path, work: Path, exit_code: int, code: int
) -> None:
    script = f"cd .. && rm -r {REMOTE}; exit {exit_code}"
    words = ("--sync", str(work), "--fetch", "**", "--", "sh", "-c", script)
    result, _output, errors = console(*EXEC, *words)
    assert result == code
    assert "nothing more is fetched" in errors
    assert real.leases.list() == ()


def test_signal_during_the_copy_releases_the_host(
    real: Yard, console: Console, home: Path, work: Path
) -> None:
    (home / REMOTE).mkdir()
    os.mkfifo(home / "pipe")
    programs = home.parent / "bin" / "programs"
    (programs / "ssh").write_text(f"#!/bin/sh\necho copying > {home}/pipe\nexec sleep 60\n")
    process = console.start(*EXEC, "--sync", str(work), "--", "true")
    assert (home / "pipe").read_text() == "copying\n"
    process.send_signal(signal.SIGTERM)
    _output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert real.leases.list() == ()
