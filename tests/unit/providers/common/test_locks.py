# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lock files: what the contract suite does not ask of every provider."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from stockyard.clock import Deadline
from stockyard.errors import Busy, HypervisorError, OutOfSpace
from stockyard.providers.common.locks import _path, free, held
from tests.helpers.clocks import FakeClock


@pytest.mark.parametrize(
    "name", ["../../etc/x", "a/b", "..", "a\nb", "$(id)", "x" * 300, "ü" * 100, "%2e%2e%2f"]
)
def test_a_name_stays_within_its_directory(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep" / "locks"
    with held(folder, name, Deadline(1)):
        assert len(list(folder.iterdir())) == 1
    assert [p for p in tmp_path.rglob("*") if not p.is_dir()] == []


def test_full_storage_is_named_and_nothing_stays_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        with (
            pytest.raises(OutOfSpace, match="free space"),
            held(tmp_path, "a", Deadline(1), text="until"),
        ):
            pytest.fail("the text is not in the file")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    for _number in range(3):
        with held(tmp_path, "a", Deadline(1)):
            pass
    assert list(tmp_path.iterdir()) == []


def test_waiter_polls_and_gives_up_at_the_deadline(tmp_path: Path) -> None:
    clock = FakeClock()
    with (
        held(tmp_path, "a", Deadline(1)),
        pytest.raises(Busy, match="another controller") as caught,
        held(tmp_path, "a", Deadline(1, clock), poll=0.25),
    ):
        pytest.fail("two hold one name")
    assert clock.slept == [0.25] * 4
    assert caught.value.name == "a"


def test_lock_whose_file_was_deleted_is_acquired_again(tmp_path: Path) -> None:
    with held(tmp_path, "a", Deadline(1)):
        (tmp_path / "a.lock").unlink()
        with held(tmp_path, "a", Deadline(0)):
            pass


def test_unusable_directory_raises_a_stockyard_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(HypervisorError, match="lock file"),
        held(tmp_path / "file", "a", Deadline(0)),
    ):
        pytest.fail("held")


def test_only_a_lock_without_holder_is_free(tmp_path: Path) -> None:
    stale = tmp_path / "own.stale.lock"
    stale.write_text("")
    (tmp_path / "own.precious").write_text("")
    with held(tmp_path, "own.a", Deadline(1)):
        assert free(tmp_path, "own", remove=False) == [stale]
        assert stale.exists()
        assert free(tmp_path, "own", remove=True) == [stale]
        assert free(tmp_path, "own", remove=True) == []
        assert (tmp_path / "own.a.lock").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["own.precious"]


def test_lock_of_another_owner_is_not_free(tmp_path: Path) -> None:
    """Long names keep their owner, though the rest of the file name is a digest."""
    other_files = [
        "b.default.fleet.x",
        "ab.default.fleet.x",
        f"b.default.fleet.{'x' * 200}",
        "registry",
        "a",
    ]
    paths = [_path(tmp_path, name) for name in [*other_files, f"a.default.fleet.{'x' * 200}"]]
    for path in paths:
        path.write_text("")
    assert free(tmp_path, "a", remove=True) == paths[-1:]
    assert sorted(tmp_path.iterdir()) == sorted(paths[:-1])


def test_directory_without_locks_has_no_free_lock(tmp_path: Path) -> None:
    assert free(tmp_path / "nowhere", "own", remove=True) == []
    assert not (tmp_path / "nowhere").exists()
