# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The console command prints nothing that a terminal would obey, whatever objects are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stockyard import StockyardError, Yard
from stockyard.cli import say

ESCAPES = "\x1b]0;owned\x07\r\x9b\u202e"
SHOWN = "\\x1b]0;owned\\x07\\r\\x9b\\u202e"


def test_machine_with_a_hostile_name_is_reported_on_one_printable_line(
    real: Yard, console: Any, uri: str, tmp_path: Path
) -> None:
    state = Path(uri.removeprefix("memory://"))
    with state.open("a") as handle:
        handle.write(
            json.dumps([f"stockyard.default.x{ESCAPES}", {"record": "", "state": "off"}]) + "\n"
        )
    code, output, errors = console("reap", "--dry-run")
    assert code == 0
    assert f"skipped: machine stockyard.default.x{SHOWN}: " in output
    assert {line.isprintable() for line in (output + errors).splitlines()} == {True}


def test_progress_and_errors_are_printable_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say.err(f"stockyard: {StockyardError('failed', name=f'host {ESCAPES}', cause=ESCAPES)}")
    say.err(f"host web-1: waits for {ESCAPES}\nhost web-2: ready")
    errors = capsys.readouterr().err
    assert errors.count("\n") == 2
    assert {line.isprintable() for line in errors.split("\n")} == {True}
