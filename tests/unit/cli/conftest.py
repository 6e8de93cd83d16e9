# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A yard for the console command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stockyard import FleetSpec, TemplateSpec, Yard
from stockyard.cli.main import main
from tests.helpers.clocks import BriskClock


@pytest.fixture
def real(uri: str, tmp_path: Path) -> Iterator[Yard]:
    """A yard with two hosts, by the machine's own clock."""
    with Yard(uri, pki_dir=str(tmp_path / "pki"), clock=BriskClock()) as yard:
        yard.templates.apply(TemplateSpec("base"))
        yard.fleets.apply(FleetSpec("ci", "base", count=2))
        yield yard


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the caller's own: no variables, and a directory without a declaration."""
    directory = tmp_path / "directory"
    directory.mkdir()
    monkeypatch.chdir(directory)
    for name in [name for name in os.environ if name.startswith("STOCKYARD_")]:
        monkeypatch.delenv(name)


class Console:
    """The command, typed in this process or in one of its own."""

    def __init__(self, uri: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.where = ["--hypervisor", uri, "--pki-dir", str(home / "pki")]
        self.capsys = capsys

    def line(self, *words: str) -> list[str]:
        """The words with the options that name the yard, before those that follow a ``--``."""
        place = words.index("--") if "--" in words else len(words)
        return [*words[:place], *self.where, *words[place:]]

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        self.capsys.readouterr()
        try:
            code = main(self.line(*words))
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *self.capsys.readouterr()

    def json(self, *words: str) -> Any:
        """Return the JSON output of a command that succeeds."""
        code, output, error = self(*words, "--json")
        assert code == 0, error
        return json.loads(output)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """The command in a process of its own."""
        argv = [sys.executable, "-m", "stockyard.cli.main", *self.line(*words)]
        return subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )


@pytest.fixture
def console(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """The command for the yard of :func:`real`."""
    return Console(uri, tmp_path, capsys)
