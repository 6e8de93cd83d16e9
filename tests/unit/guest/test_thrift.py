# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Giving memory back: how much is taken, and that the kernel's settings are as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockyard.guest.agent import thrift


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel's files, with 64 MiB that nothing uses."""
    for name in ("DROP", "COMPACTION", "MEMINFO"):
        monkeypatch.setattr(thrift, name, str(tmp_path / name))
    (tmp_path / "COMPACTION").write_text("20\n")
    (tmp_path / "MEMINFO").write_text("MemTotal: 1000000 kB\nMemFree:  65536 kB\n")
    return tmp_path


def test_caches_are_dropped(kernel: Path) -> None:
    thrift.drop_caches()
    assert (kernel / "DROP").read_text() == "3"


def test_nearly_all_free_memory_is_taken_and_given_back(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free, seen = [64 << 20], list[int]()

    def left() -> int:
        seen.append(free[0])
        free[0] -= thrift.STEP
        return seen[-1]

    monkeypatch.setattr(thrift, "free_bytes", left)
    thrift.zero_free_memory()
    assert seen[-1] == thrift.MARGIN + thrift.STEP
    assert (kernel / "COMPACTION").read_text() == "20\n"


def test_free_is_what_nothing_uses(kernel: Path) -> None:
    assert thrift.free_bytes() == 64 << 20
    (kernel / "MEMINFO").write_text("")
    assert thrift.free_bytes() == 0


def test_a_failure_leaves_the_kernel_as_it_was(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thrift, "free_bytes", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        thrift.zero_free_memory()
    assert (kernel / "COMPACTION").read_text() == "20\n"
