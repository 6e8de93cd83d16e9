# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that matter have one writer, which never leaves a part of a file behind."""

from __future__ import annotations

import ast
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stockyard import files

PLUGINS = Path(__file__).parents[2] / "plugins"
SDK = PLUGINS / "module_utils" / "stockyard"
# The system calls at which a writer is killed.
CALLS = ("open", "fchmod", "fsync", "replace", "close")
# Calls that rename files without the promise of stockyard.files, each with the reason.
EXCEPTIONS = {
    "clients/work_tree.py": "writes below a directory that can contain symbolic links",
    "files.py": "implements it",
    "providers/common/debian.py": "renames within a directory that is deleted after the build",
    "providers/libvirt/images.py": "renames within a directory that is then moved as a whole",
    "providers/libvirt/port_follower.py": "is a program of its own, and its record may be lost",
    "providers/libvirt/uplink_names.py": "is a program of its own, and its record may be lost",
    "providers/memory/volumes.py": "simulates the mounts of a guest",
}


def crash_after(path: Path, calls: int, content: str) -> bool:
    """Write a file in a process that is killed before one of its system calls.

    :return: whether the writer completed first.
    """
    pid = os.fork()
    if pid == 0:
        remaining_calls = [None] * calls
        for name in CALLS:
            setattr(os, name, _deadly(getattr(os, name), remaining_calls))
        files.write_atomic(path, content)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def _deadly(function: Callable[..., Any], remaining_calls: list[None]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        if not remaining_calls:
            os._exit(9)
        remaining_calls.pop()
        return function(*args, **options)

    return call


@pytest.mark.parametrize("old", ["old content", None])
def test_file_of_a_writer_that_was_killed_at_any_step_is_old_or_new(
    tmp_path: Path, old: str | None
) -> None:
    path, contents = tmp_path / "record.json", []
    for calls in range(20):
        path.unlink(missing_ok=True)
        if old:
            path.write_text(old)
        completed = crash_after(path, calls, "new content" * 10000)
        content = path.read_text() if path.exists() else None
        assert content in (old, "new content" * 10000)
        contents.append(content)
        other_entries = [entry for entry in tmp_path.iterdir() if entry != path]
        assert other_entries == files.unfinished(path)
        for entry in other_entries:
            entry.unlink()
        if completed:
            assert content != old
            break
    else:
        raise AssertionError("the writer never completed")
    # Both outcomes occurred: the writer was killed before the rename, and after it.
    assert contents.count(old) >= 2
    assert len(contents) - contents.count(old) >= 2


def test_content_and_directory_are_flushed_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        calls.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def watched_replace(source: Path, target: Path) -> None:
        assert source.read_text() == "text"
        calls.append(("replace", str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    path = tmp_path / "file"
    files.write_atomic(path, "text")
    temporary = calls[0][1]
    assert files.is_temporary(Path(temporary))
    assert calls == [("fsync", temporary), ("replace", str(path)), ("fsync", str(tmp_path))]
    calls.clear()
    files.write_atomic(path, "text", durable=False)
    assert calls == [("replace", str(path))]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*_args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o400, None])
def test_mode_of_a_file_is_the_requested_one(tmp_path: Path, mode: int | None) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o606)
    umask = os.umask(0o027)
    try:
        files.write_atomic(path, b"\xff", mode)
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o7777 == (0o640 if mode is None else mode)
    assert path.read_bytes() == b"\xff"


def test_directory_is_moved_with_flushed_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def watched_fsync(descriptor: int) -> None:
        flushed.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "done").mkdir()
    (tmp_path / "work" / "done" / "disk").write_text("disk")
    (tmp_path / "work" / "done" / "dangling").symlink_to("nothing")
    files.move(tmp_path / "work" / "done", tmp_path / "image")
    assert (tmp_path / "image" / "disk").read_text() == "disk"
    assert flushed == ["work/done", "work/done/disk", ".", "work"]


def test_planted_links_lead_a_writer_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "shared"
    victim.write_text("precious")
    folder.mkdir()
    path = folder / "key.pem"
    path.symlink_to(victim)
    # Another user guessed the random name, and planted a link under it too.
    monkeypatch.setattr("secrets.token_hex", lambda _count: "00000000")
    temporary = folder / ".key.pem.00000000.new"
    temporary.symlink_to(victim)
    with pytest.raises(FileExistsError):
        files.write_atomic(path, "secret")
    temporary.symlink_to(victim)
    assert path.is_symlink()
    temporary.unlink()
    files.write_atomic(path, "secret")
    assert victim.read_text() == "precious"
    assert not path.is_symlink()
    assert path.read_text() == "secret"


def creations(tree: ast.Module) -> Iterator[int]:
    """Yield the line of each call of os.open that can create a file through a planted link."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "O_CREAT":
            yield node.lineno


def test_no_file_is_created_through_a_link() -> None:
    lines = {
        f"{path.relative_to(SDK)}:{line}": path.read_text().splitlines()[line - 1]
        for path in SDK.rglob("*.py")
        # In the guest, no other user can write to the agent's directories.
        if not path.is_relative_to(SDK / "guest" / "agent")
        for line in creations(ast.parse(path.read_text()))
    }
    assert len(lines) >= 5
    unsafe = {
        place: line
        for place, line in lines.items()
        if not any(flag in line for flag in ("O_EXCL", "O_NOFOLLOW", "FLAGS | "))
    }
    assert unsafe == {}


def renames(tree: ast.Module) -> Iterator[int]:
    """Yield the line of every call that renames a file, by os, shutil or pathlib."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("os", "shutil"):
            if {alias.name for alias in node.names} & {"rename", "renames", "replace", "move"}:
                yield node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            method, arguments = node.func.attr, len(node.args) + len(node.keywords)
            module = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            if (
                method in ("rename", "renames")
                or (module == "shutil" and method == "move")
                or (module == "os" and method in ("replace", "link"))
                # str.replace has two arguments, Path.replace has one.
                or (method == "replace" and arguments == 1 and not node.keywords)
            ):
                yield node.lineno


@pytest.mark.parametrize(
    "line",
    [
        "os.replace(a, b)",
        "os.rename(a, b)",
        "os.link(a, b)",
        "path.rename(b)",
        "path.replace(b)",
        "(a / 'b').replace(c)",
        "shutil.move(a, b)",
        "from os import replace",
    ],
)
def test_call_that_renames_is_reported(line: str) -> None:
    assert list(renames(ast.parse(line))) == [1]


@pytest.mark.parametrize(
    "line", ["text.replace('a', 'b')", "replace(record, a=1)", "time.replace(tzinfo=None)"]
)
def test_call_that_renames_nothing_is_not_reported(line: str) -> None:
    assert list(renames(ast.parse(line))) == []


def test_files_are_renamed_only_by_listed_modules() -> None:
    places = {
        str(path.relative_to(SDK) if path.is_relative_to(SDK) else path.relative_to(PLUGINS))
        for path in PLUGINS.rglob("*.py")
        # These run in the guest, where the SDK is not.
        if not any(path.is_relative_to(SDK / "guest" / part) for part in ("agent", "ports"))
        and list(renames(ast.parse(path.read_text())))
    }
    assert places == set(EXCEPTIONS)
