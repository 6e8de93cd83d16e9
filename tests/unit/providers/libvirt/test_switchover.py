# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch-over of a branch, over monitors that answer as QEMU does."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from stockyard.providers.libvirt import switchover
from stockyard.providers.libvirt.switchover import SwitchOver, SwitchOverError


class Qemu:
    """The monitor of one machine.

    :param statuses: the status of the migration at each query; the last one repeats until the
        migration is cancelled.
    """

    def __init__(self, *statuses: str) -> None:
        self.statuses = list(statuses)
        self.running = True
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.limits = {"max-bandwidth": 1, "downtime-limit": 2, "other": 3}
        self.refusals = 0
        self.remaining = 0

    def __call__(self, execute: str, **arguments: Any) -> Any:
        self.commands.append((execute, arguments))
        if execute == "query-migrate":
            return self._migration()
        if execute == "migrate_cancel":
            self.statuses, self.running = ["cancelled"], True
        if execute == "query-status":
            return {"running": self.running}
        if execute == "query-migrate-parameters":
            return dict(self.limits)
        if execute == "migrate-set-parameters":
            self.limits.update(arguments)
        return {}

    def _migration(self) -> dict[str, Any]:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == "pre-switchover":
            self.running = False
        return {"status": status, "downtime": 7, "ram": {"remaining": self.remaining}}

    def pass_file(self, descriptor: int, label: str) -> None:
        os.fstat(descriptor)
        self.commands.append(("getfd", {"fdname": label}))

    def suspend(self) -> None:
        self.commands.append(("suspend", {}))
        self.running = False

    def resume(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise SwitchOverError("Migration is not finalized yet")
        self.running = True

    def names(self) -> list[str]:
        return [name for name, _arguments in self.commands if not name.startswith("query")]


class Snapshot:
    """The snapshot of the parent's disk, which must be taken while the parent is stopped."""

    def __init__(self, parent: Qemu, error: str = "") -> None:
        self.parent = parent
        self.error = error
        self.taken = 0

    def __call__(self) -> None:
        assert not self.parent.running
        if self.error:
            raise SwitchOverError(self.error)
        self.taken += 1


def switch(
    parent: Qemu,
    snapshot: Snapshot,
    *,
    lives: bool = True,
    seconds: float = 60.0,
    stop_first: bool = False,
) -> tuple[Qemu, dict[str, float]]:
    twin = Qemu("none")
    order = SwitchOver(parent, twin, snapshot, lambda: lives, seconds, stop_first=stop_first)
    return twin, order.run()


def capabilities(machine: Qemu) -> dict[str, bool]:
    """The capabilities as the last commands set them."""
    return {
        entry["capability"]: entry["state"]
        for name, arguments in machine.commands
        if name == "migrate-set-capabilities"
        for entry in arguments["capabilities"]
    }


def test_the_disk_changes_while_the_parent_is_stopped_and_then_the_parent_runs() -> None:
    parent = Qemu("setup", "active", "pre-switchover", "device", "completed")
    snapshot = Snapshot(parent)
    twin, times = switch(parent, snapshot)
    assert parent.running
    assert snapshot.taken == 1
    assert times["pause"] >= 0
    assert times["downtime"] == 7
    assert twin.names() == ["getfd", "migrate-incoming"]
    names = parent.names()
    assert names.index("migrate") < names.index("migrate-continue")
    assert "migrate_cancel" not in names


def test_limits_and_capabilities_of_the_parent_are_as_before() -> None:
    parent = Qemu("active", "pre-switchover", "completed")
    switch(parent, Snapshot(parent))
    assert parent.limits == {"max-bandwidth": 1, "downtime-limit": 2, "other": 3}
    assert capabilities(parent) == {"x-ignore-shared": False, "pause-before-switchover": False}


def test_a_resume_is_repeated_while_qemu_finishes_the_migration() -> None:
    parent = Qemu("pre-switchover", "completed")
    parent.refusals = 3
    switch(parent, Snapshot(parent))
    assert parent.running


def test_a_snapshot_that_fails_leaves_a_running_parent_without_migration() -> None:
    parent = Qemu("active", "pre-switchover")
    with pytest.raises(SwitchOverError, match="no space"):
        switch(parent, Snapshot(parent, "no space"))
    assert parent.running
    assert parent.statuses == ["cancelled"]


def test_a_migration_that_fails_after_the_snapshot_leaves_a_running_parent() -> None:
    parent = Qemu("pre-switchover", "failed")
    snapshot = Snapshot(parent)
    with pytest.raises(SwitchOverError, match="the migration failed"):
        switch(parent, snapshot)
    assert parent.running
    assert snapshot.taken == 1


@pytest.mark.parametrize(
    ("lives", "seconds", "reason"), [(False, 60.0, "controller died"), (True, 0.0, "wrote faster")]
)
def test_a_migration_is_cancelled_before_the_stop(lives: bool, seconds: float, reason: str) -> None:
    parent = Qemu("active")
    snapshot = Snapshot(parent)
    with pytest.raises(SwitchOverError, match=reason):
        switch(parent, snapshot, lives=lives, seconds=seconds)
    assert parent.running
    assert snapshot.taken == 0
    assert "migrate_cancel" in parent.names()


def test_an_emulated_parent_is_stopped_before_its_memory_is_copied() -> None:
    parent = Qemu("setup", "active", "pre-switchover", "device", "completed")
    snapshot = Snapshot(parent)
    _twin, times = switch(parent, snapshot, stop_first=True)
    names = parent.names()
    assert names.index("suspend") < names.index("migrate")
    assert (parent.running, snapshot.taken) == (True, 1)
    assert times["pause"] >= times["copied"]


def test_a_stopped_parent_continues_if_the_controller_dies_while_memory_is_copied() -> None:
    parent = Qemu("active")
    with pytest.raises(SwitchOverError, match="controller died"):
        switch(parent, Snapshot(parent), lives=False, stop_first=True)
    assert parent.running
    assert "migrate_cancel" in parent.names()


def test_a_dead_controller_after_the_stop_changes_nothing() -> None:
    parent = Qemu("pre-switchover", "completed")
    snapshot = Snapshot(parent)
    switch(parent, snapshot, lives=False)
    assert parent.running
    assert snapshot.taken == 1


def test_a_busy_guest_may_be_stopped_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switchover, "STOPS", ((0.0, 10), (0.0, 50), (0.0, 90)))
    parent = Qemu(*["active"] * 4, "pre-switchover", "completed")
    switch(parent, Snapshot(parent))
    limits = [
        arguments["downtime-limit"]
        for name, arguments in parent.commands
        if name == "migrate-set-parameters"
    ]
    assert limits == [10, 50, 90, 2]


@pytest.mark.parametrize(
    ("remaining", "pause"), [(0, switchover.POLL), (1 << 30, switchover.PATIENT_POLL)]
)
def test_queries_are_rare_while_much_is_left(
    monkeypatch: pytest.MonkeyPatch, remaining: int, pause: float
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    parent = Qemu("active", "pre-switchover", "completed")
    parent.remaining = remaining
    switch(parent, Snapshot(parent))
    assert pauses[0] == pause


def test_the_text_of_the_process_needs_nothing_of_the_sdk() -> None:
    tree = ast.parse(inspect.getsource(switchover))
    modules = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {
        "__future__",
        "json",
        "libvirt",
        "libvirt_qemu",
        "os",
        "select",
        "socket",
        "time",
        "typing",
    }


def test_the_text_of_the_process_can_be_read_from_an_archive(tmp_path: Path) -> None:
    """Ansible runs modules from an archive."""
    archive = tmp_path / "modules.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("switchover.py", inspect.getsource(switchover))
    program = "import inspect, switchover; print(inspect.getsource(switchover), end='')"
    process = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(archive)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout == inspect.getsource(switchover)


def test_a_process_without_an_order_ends() -> None:
    process = subprocess.run(
        [sys.executable, "-c", inspect.getsource(switchover)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, b"", b"")
