# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rehearsal before the freeze, where Docker lets in only images of a list."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stockyard.guest.agent import warmup


class Engine:
    """A Docker that does as it is told, or says why not."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refusal = b""

    def run(self, line: list[str], **_more: Any) -> None:
        self.asked.append(line[1])
        if self.refusal:
            raise subprocess.CalledProcessError(1, line, stderr=self.refusal)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    engine, program = Engine(), tmp_path / "docker-init"
    program.write_bytes(b"program")
    monkeypatch.setattr(os.path, "realpath", lambda _path: str(program))
    monkeypatch.setattr(subprocess, "run", engine.run)
    return engine


def test_warm_up_runs_and_deletes_a_container(engine: Engine) -> None:
    warmup._rehearse_container()
    assert engine.asked == ["import", "run", "rmi"]


def test_an_image_that_is_not_on_the_list_is_done_without(engine: Engine) -> None:
    engine.refusal = (
        b"Error: authorization denied by plugin stockyard-authz: only images of the list are let in"
    )
    warmup._rehearse_container()
    assert engine.asked == ["import"]


def test_any_other_failure_is_one(engine: Engine) -> None:
    engine.refusal = b"no space left on device"
    with pytest.raises(subprocess.CalledProcessError):
        warmup._rehearse_container()
