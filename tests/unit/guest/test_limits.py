# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits in per cent follow the memory of a host that grew."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import pytest

from stockyard.guest import security
from stockyard.guest.agent import limits
from stockyard.model.security import SecuritySpec

SLICE, SCOPE = "stockyard.slice/stockyard-containers.slice", "system.slice/docker-1.scope"
# systemd's answer: a slice with a limit, one without, one that is not active, and two containers,
# the last of which has ended.
SHOWN = f"""\
ControlGroup=/{SLICE}
MemoryMax=910184448

ControlGroup=/system.slice
MemoryMax=infinity

ControlGroup=
MemoryMax=606789632

ControlGroup=/{SCOPE}
MemoryMax=606789632

ControlGroup=/system.slice/docker-2.scope
MemoryMax=606789632
"""


@pytest.fixture
def reloads(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that change something."""
    changes: list[list[str]] = []

    def run(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        if command[1] != "show":
            changes.append(command)
        return subprocess.CompletedProcess(command, 0, SHOWN)

    monkeypatch.setattr(subprocess, "run", run)
    return changes


def guest(root: Path, percentages: dict[str, int] | None, blocks: int) -> Path:
    """A root directory with so much memory in use, in blocks of 128 MiB."""
    folder = root / limits.BLOCKS
    folder.mkdir(parents=True)
    (folder / "block_size_bytes").write_text("8000000\n")
    for number in range(blocks):
        (folder / f"memory{number}").mkdir()
        (folder / f"memory{number}" / "state").write_text("online\n")
    marker = root / limits.MARKER
    marker.parent.mkdir(parents=True)
    if percentages is not None:
        marker.write_text(security.marker(SecuritySpec(limits=percentages).settings()))
    return root


def test_the_marker_is_the_one_that_images_have() -> None:
    assert f"/{limits.MARKER}" == security.MARKER


@pytest.mark.parametrize("percentages", [None, {}, {"pids": 100}])
def test_without_limits_in_per_cent_nothing_is_done(
    tmp_path: Path, reloads: list[list[str]], percentages: dict[str, int] | None
) -> None:
    assert limits.refresh_limits(str(guest(tmp_path, percentages, 8)), 1 << 20) == {
        "refreshed": False
    }
    assert reloads == []


@pytest.mark.parametrize("percentages", [{"memory_percent": 75}, {"container_memory_percent": 50}])
def test_they_are_counted_when_the_memory_is_in_use(
    tmp_path: Path, reloads: list[list[str]], percentages: dict[str, int]
) -> None:
    root = guest(tmp_path, percentages, 8)
    late = root / limits.BLOCKS / "memory8"
    late.mkdir()
    (late / "state").write_text("offline\n")
    assert limits.used_mib(str(root)) == 1024

    def put_online() -> None:
        time.sleep(0.3)
        assert reloads == []
        (late / "state").write_text("online\n")

    udev = threading.Thread(target=put_online)
    udev.start()
    assert limits.refresh_limits(str(root), 1152) == {"refreshed": True}
    udev.join()
    assert reloads == [["systemctl", "daemon-reload"]]


def test_guest_that_rejects_the_limit_is_abandoned_at_the_deadline(
    tmp_path: Path, reloads: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PATIENCE", 0.1)
    assert limits.refresh_limits(str(guest(tmp_path, {"memory_percent": 75}, 8)), 2048) == {
        "refreshed": True
    }
    assert len(reloads) == 1


def test_the_limits_that_systemd_recalculated_are_written_to_the_kernel(
    tmp_path: Path, reloads: list[list[str]]
) -> None:
    root = guest(tmp_path, {"memory_percent": 75, "container_memory_percent": 50}, 8)
    groups = root / limits.CONTROL_GROUPS
    for path in (SLICE, SCOPE, "system.slice"):
        (groups / path).mkdir(parents=True, exist_ok=True)
        (groups / path / "memory.max").write_text("max\n")
    limits.refresh_limits(str(root), 1024)
    written = {path: (groups / path / "memory.max").read_text() for path in (SLICE, SCOPE)}
    assert written == {SLICE: "910184448", SCOPE: "606789632"}
    assert (groups / "system.slice" / "memory.max").read_text() == "max\n"
    assert not (groups / "system.slice" / "docker-2.scope").exists()
