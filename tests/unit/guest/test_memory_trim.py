# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The trim of free memory: its amount, no harm to processes, restored kernel settings."""

from __future__ import annotations

import mmap
import os
import signal
import time
from pathlib import Path

import pytest

from stockyard.guest.agent import memory_trim

PATIENCE = 30.0


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel's files, with 64 MiB that nothing uses."""
    for name in ("DROP", "MEMINFO", "OOM_SCORE"):
        monkeypatch.setattr(memory_trim, name, str(tmp_path / name))
    names = {"min_free": "8192", "defrag": "never", "not_in_this_kernel": "1"}
    settings = {str(tmp_path / name): value for name, value in names.items()}
    monkeypatch.setattr(memory_trim, "SETTINGS", settings)
    (tmp_path / "min_free").write_text("45056\n")
    (tmp_path / "defrag").write_text("always defer [madvise] never\n")
    (tmp_path / "MEMINFO").write_text("MemTotal: 1000000 kB\nMemFree:  65536 kB\n")
    return tmp_path


def test_caches_are_dropped(kernel: Path) -> None:
    memory_trim.drop_caches()
    assert (kernel / "DROP").read_text() == "3"


def test_nearly_all_free_memory_is_zeroed_and_freed(
    kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left() -> int:
        """Told outside of the process that takes it, which ends."""
        with (kernel / "seen").open("a") as log:
            log.write((kernel / "min_free").read_text() + "\n")
        return (64 << 20) - sum(zeroed)

    zeroed: list[int] = []
    allocate = mmap.mmap

    def counted(handle: int, size: int, **options: int) -> mmap.mmap:
        zeroed.append(size)
        (kernel / "taken").write_text(" ".join(str(size >> 20) for size in zeroed))
        return allocate(handle, size, **options)

    monkeypatch.setattr(memory_trim, "free_bytes", left)
    monkeypatch.setattr(mmap, "mmap", counted)
    assert memory_trim.zero_free_memory(PATIENCE)
    # Half of what is above the margin of 10 MiB each time, until one step is left.
    assert (kernel / "taken").read_text().split() == ["27", "13", "7", "3", "2", "1"]
    assert set((kernel / "seen").read_text().split()) == {"8192"}
    assert (kernel / "min_free").read_text() == "45056\n"
    assert (kernel / "defrag").read_text() == "madvise"
    assert not (kernel / "not_in_this_kernel").exists()
    assert (kernel / "OOM_SCORE").read_text() == "1000"


def test_free_memory_excludes_used_pages(kernel: Path) -> None:
    assert memory_trim.free_bytes() == 64 << 20
    (kernel / "MEMINFO").write_text("")
    assert memory_trim.free_bytes() == 0


def fail() -> int:
    raise RuntimeError


def die() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def hang() -> int:
    time.sleep(600)
    return 0


@pytest.mark.parametrize("content", [fail, die, hang])
def test_failed_trim_restores_the_kernel_settings(
    kernel: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: object,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fork, begun = os.fork, list[int]()

    def counted() -> int:
        child = fork()
        if child:
            begun.append(child)
        return child

    monkeypatch.setattr(os, "fork", counted)
    monkeypatch.setattr(memory_trim, "free_bytes", content)
    assert not memory_trim.zero_free_memory(0.5 if content is hang else PATIENCE)
    assert (kernel / "min_free").read_text() == "45056\n"
    assert "could not be zeroed" in capfd.readouterr().err
    (child,) = begun
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_little_is_read_ahead_for_a_while(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = kernel / "vda"
    disk.write_text("128\n")
    monkeypatch.setattr(memory_trim, "READ_AHEAD", str(kernel / "vd?"))
    with memory_trim.little_read_ahead():
        assert disk.read_text() == memory_trim.LITTLE
    assert disk.read_text() == "128\n"


def test_a_program_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "docker"
    program.write_bytes(b"#!")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    calls: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _handle, *how: calls.append(how))
    memory_trim.forget("docker")
    memory_trim.forget("no-such-program")
    assert calls == [(0, 0, os.POSIX_FADV_DONTNEED)]


def test_trim_uses_existing_small_pages(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(mmap, "MADV_NOHUGEPAGE"):
        pytest.skip("this system knows no huge pages")
    monkeypatch.setattr(memory_trim, "MARGIN", (64 << 20) - 2 * memory_trim.STEP)
    monkeypatch.setattr(memory_trim, "free_bytes", iter([64 << 20, 0]).__next__)
    assert memory_trim.zero_free_memory(PATIENCE)


def test_reclaim_asks_the_kernel_for_each_group_and_takes_no_for_an_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "system.slice").mkdir()
    monkeypatch.setattr(memory_trim, "RECLAIM", f"{tmp_path}/{{}}/memory.reclaim")
    monkeypatch.setattr(memory_trim, "GROUPS", ("init.scope", "system.slice"))
    memory_trim.reclaim()
    assert (tmp_path / "system.slice" / "memory.reclaim").read_text() == str(1 << 30)


def test_only_pages_of_new_layers_are_dropped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, age in (("old", 1000.0), ("new", 2000.0)):
        (tmp_path / name / "diff").mkdir(parents=True)
        (tmp_path / name / "diff/file").write_text(name)
        (tmp_path / name / "diff/link").symlink_to("/dev/null")
        os.mkfifo(tmp_path / name / "diff/pipe")
        os.utime(tmp_path / name, (age, age))
    dropped: list[str] = []
    monkeypatch.setattr(memory_trim, "LAYERS", (f"{tmp_path}/*",))
    monkeypatch.setattr(memory_trim, "_forget_file", dropped.append)
    memory_trim.forget_layers(1500.0)
    assert dropped == [str(tmp_path / "new/diff/file")]
