# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch-over of a branch, over monitors that answer as QEMU does."""

from __future__ import annotations

import ast
import fcntl
import inspect
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from stockyard.providers.libvirt import memory_copy, switchover, switchover_process
from stockyard.providers.libvirt.memory_copy import MemoryCopy, UnsuitableMemory
from stockyard.providers.libvirt.switchover import SwitchOver, SwitchOverError

# The time that a snapshot of the disk takes.
SNAPSHOT_MILLISECONDS = 5


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

    def device_state(self) -> bytes:
        assert not self.running
        self.commands.append(("xen-save-devices-state", {}))
        return b"devices"

    def forget_files(self) -> None:
        assert self.running
        self.commands.append(("remove-fd", {}))

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


class Memory(MemoryCopy):
    """The copy of a parent's memory.

    :param most: the size of the private memory.
    :param known: whether the format of the state is known.
    """

    def __init__(self, parent: Qemu, size: int = 0, *, known: bool = True) -> None:
        super().__init__(0, [])
        self.parent = parent
        self.size = size
        self.known = known
        self.complete_copies = 0

    def copy(self, parent: Any, most: int = 0) -> None:
        assert parent.running
        if self.size > most:
            raise UnsuitableMemory("it is large")

    def join(self, devices: bytes) -> bytes:
        if not self.known:
            raise UnsuitableMemory("the format is unknown")
        return b"memory, " + devices

    def complete(self) -> None:
        assert not self.parent.running
        self.complete_copies += 1


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
        time.sleep(SNAPSHOT_MILLISECONDS / 1000)
        self.taken += 1


def switch(
    parent: Qemu,
    snapshot: Snapshot,
    *,
    lives: bool = True,
    seconds: float = 60.0,
    stop_first: bool = False,
    memory: Memory | None = None,
) -> tuple[Qemu, dict[str, float]]:
    twin = Qemu("none")
    order = SwitchOver(
        parent, twin, snapshot, lambda: lives, seconds, stop_first=stop_first, memory=memory
    )
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
    assert times["pause"] >= SNAPSHOT_MILLISECONDS
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


def test_memory_of_a_fork_is_copied_without_a_migration() -> None:
    parent = Qemu("completed")
    snapshot, memory = Snapshot(parent), Memory(parent)
    twin, times = switch(parent, snapshot, memory=memory)
    assert (parent.running, snapshot.taken, memory.complete_copies) == (True, 1, 1)
    assert parent.names() == ["suspend", "xen-save-devices-state", "remove-fd"]
    assert twin.names() == ["getfd", "migrate-set-capabilities", "migrate-incoming"]
    assert capabilities(twin) == {"x-ignore-shared": True}
    assert times["pause"] >= times["snapshot"] >= SNAPSHOT_MILLISECONDS


@pytest.mark.parametrize(
    ("memory", "statuses"), [({"size": memory_copy.LARGE + 1}, ()), ({"known": False}, ("none",))]
)
def test_other_memory_is_migrated_from_a_running_parent(
    memory: dict[str, Any], statuses: tuple[str, ...]
) -> None:
    parent = Qemu(*statuses, "active", "pre-switchover", "device", "completed")
    snapshot = Snapshot(parent)
    switch(parent, snapshot, memory=Memory(parent, **memory))
    assert (parent.running, snapshot.taken) == (True, 1)
    assert "migrate" in parent.names()


def test_memory_of_any_size_is_copied_if_a_migration_stops_the_parent_first() -> None:
    parent = Qemu("completed")
    memory = Memory(parent, 1 << 40)
    switch(parent, Snapshot(parent), stop_first=True, memory=memory)
    assert memory.complete_copies == 1
    assert "migrate" not in parent.names()


def test_a_copy_ends_without_a_stop_if_the_controller_died() -> None:
    parent = Qemu("none")
    with pytest.raises(SwitchOverError, match="controller died"):
        switch(parent, Snapshot(parent), lives=False, memory=Memory(parent))
    assert parent.names() == []


def test_a_snapshot_that_fails_during_a_copy_leaves_a_running_parent() -> None:
    parent = Qemu("none")
    with pytest.raises(SwitchOverError, match="no space"):
        switch(parent, Snapshot(parent, "no space"), memory=Memory(parent))
    assert parent.running


class PassedFiles:
    """libvirt's module for QEMU's monitor, over a QEMU that writes to files passed to it."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}

    def qemuMonitorCommandWithFiles(  # noqa: N802
        self, _domain: object, text: str, files: list[int], _flags: int
    ) -> tuple[str, list[int]]:
        assert json.loads(text)["execute"] == "add-fd"
        assert fcntl.fcntl(files[0], fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        self.files["/dev/fdset/7"] = os.dup(files[0])
        return json.dumps({"return": {"fdset-id": 7, "fd": 20}}), []

    def qemuMonitorCommand(self, _domain: object, text: str, _flags: int) -> str:  # noqa: N802
        command = json.loads(text)
        if command["execute"] == "xen-save-devices-state":
            assert command["arguments"]["live"] is False
            os.write(self.files[command["arguments"]["filename"]], b"devices")
        elif command["execute"] == "remove-fd":
            os.close(self.files.pop(f"/dev/fdset/{command['arguments']['fdset-id']}"))
        return json.dumps({"return": {}})


def test_the_state_of_devices_is_read_from_a_file_that_qemu_gets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monitor = PassedFiles()
    monkeypatch.setitem(sys.modules, "libvirt_qemu", monitor)
    machine = switchover.Machine(None)
    assert machine.device_state() == b"devices"
    machine.forget_files()
    machine.forget_files()
    assert monitor.files == {}


def test_the_texts_of_the_process_need_nothing_of_the_sdk() -> None:
    trees = [ast.parse(inspect.getsource(module)) for module in (memory_copy, switchover)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    modules |= {node.module or "" for node in imports if not node.level}
    assert [node.module for node in imports if node.level] == ["memory_copy"]
    assert modules == {
        "__future__",
        "collections.abc",
        "concurrent.futures",
        "errno",
        "json",
        "libvirt",
        "libvirt_qemu",
        "os",
        "re",
        "select",
        "socket",
        "sys",
        "time",
        "typing",
    }


def test_the_text_of_the_process_can_be_read_from_an_archive(tmp_path: Path) -> None:
    """Ansible runs modules from an archive."""
    archive = tmp_path / "modules.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("sdk/__init__.py", "")
        for module in (memory_copy, switchover):
            name = module.__name__.rpartition(".")[2]
            file.writestr(f"sdk/{name}.py", inspect.getsource(module))
    program = (
        "import inspect; from sdk import switchover; print(inspect.getsource(switchover), end='')"
    )
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
        switchover_process.command_line(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, b"", b"")
