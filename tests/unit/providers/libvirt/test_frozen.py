# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a frozen template: flushed before they count, and compared before each fork."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stockyard.errors import ImageError
from stockyard.providers.libvirt import frozen
from tests.helpers.samples import template_record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of a template that was just frozen."""
    for part in frozen.PARTS:
        (tmp_path / part).write_bytes(part.encode() * 1000)
    return tmp_path


def test_files_are_flushed_before_their_checksums_are_recorded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def watched_fsync(descriptor: int) -> None:
        flushed.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), folder))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    checksums = frozen.seal(folder, "template base")
    assert [name for name in flushed if name != "."] == list(frozen.PARTS)
    assert flushed.count(".") == len(frozen.PARTS)
    assert set(frozen.PARTS) < set(checksums)
    assert (folder / "ram").stat().st_mode & 0o777 != 0o400
    assert (folder / "state").stat().st_mode & 0o777 == 0o400


def test_changed_file_of_a_template_is_named(folder: Path) -> None:
    record = template_record(checksums=frozen.seal(folder, "template base"))
    frozen.verify(folder, record)
    # A restored backup has another time, and the same content.
    os.utime(folder / "ram", ns=(1, 1))
    frozen.verify(folder, record)
    (folder / "ram").write_bytes(b"other")
    with pytest.raises(ImageError, match="checksum differs"):
        frozen.verify(folder, record)
    (folder / "state").unlink()
    assert "state is missing" in frozen.problem(folder, record)


def test_restored_file_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = template_record(checksums=frozen.seal(folder, "template base"))
    os.utime(folder / "ram", ns=(1, 1))
    frozen.verify(folder, record)
    monkeypatch.setattr(frozen, "checksum", lambda path: pytest.fail(f"{path} is read again"))
    frozen.verify(folder, record)
