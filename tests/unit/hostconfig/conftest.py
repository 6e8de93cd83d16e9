# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine in a directory, whose programs say what a test wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stockyard.hostconfig.machine import Machine, Ran


class Programs:
    """Answers by the beginning of the line; what has no answer is not installed."""

    def __init__(self, **answers: str) -> None:
        self.answers: dict[str, Ran | str] = dict(answers)
        self.lines: list[str] = []

    def say(self, beginning: str, out: str = "", code: int = 0, err: str = "") -> None:
        self.answers[beginning] = Ran(code, out, err)

    def __call__(self, line: list[str], timeout: float) -> Ran:
        text = " ".join(line)
        self.lines.append(text)
        command = max((k for k in self.answers if text.startswith(k)), key=len, default=None)
        if command is None:
            return Ran(127, "", f"{line[0]} is not installed")
        answer = self.answers[command]
        return Ran(0, answer, "") if isinstance(answer, str) else answer


@pytest.fixture
def programs() -> Programs:
    return Programs()


@pytest.fixture
def machine(tmp_path: Path, programs: Programs) -> Machine:
    return Machine(str(tmp_path), programs)


@pytest.fixture
def put(machine: Machine) -> Callable[[str, str], None]:
    """Write a file of the machine's."""
    return machine.write
