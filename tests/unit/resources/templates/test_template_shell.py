# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root's shell in a template, with a program that runs the command line here instead of SSH."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockyard.clock import Deadline
from stockyard.errors import DeadlineExceeded, GuestError
from stockyard.resources.templates.template_shell import Shell

HERE = ["sh", "-c", 'sudo() { "$@"; }; eval "$0"']


@pytest.fixture
def shell() -> Shell:
    return Shell(HERE, "template jdk", Deadline(60))


def test_script_runs_and_its_output_is_returned(shell: Shell) -> None:
    assert shell.run('word=\'two words\'; echo "$word"; echo "it\'s"') == "two words\nit's\n"


def test_script_ends_with_its_first_error(shell: Shell) -> None:
    with pytest.raises(GuestError, match="failed") as failed:
        shell.run("echo before >&2; false; echo after >&2")
    assert failed.value.cause == "before"


def test_script_that_takes_too_long_is_ended() -> None:
    with pytest.raises(DeadlineExceeded, match="did not end"):
        Shell(HERE, "template jdk", Deadline(0)).run("sleep 60")


def test_directory_is_sent_in_place_of_an_earlier_one(shell: Shell, tmp_path: Path) -> None:
    source, target = tmp_path / "packages", tmp_path / "guest" / "a place"
    source.mkdir()
    (source / "a.deb").write_bytes(b"\0\xff")
    target.mkdir(parents=True)
    (target / "old.deb").touch()
    shell.send(source, str(target))
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"a.deb": b"\0\xff"}
    assert target.stat().st_mode & 0o777 == 0o700


def test_shell_without_a_machine_does_nothing(tmp_path: Path) -> None:
    shell = Shell([], "template jdk", Deadline(60))
    assert shell.run("exit 1") == ""
    shell.send(tmp_path / "missing", "/nowhere")
    shell.write({})
