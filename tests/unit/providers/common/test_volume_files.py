# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of volumes without a record: no data is deleted with them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from stockyard.errors import OperationRefused
from stockyard.model.volume import Attachment
from stockyard.providers.common.volume_files import RECORD, VolumeFiles
from tests.helpers.locking import unlocked
from tests.helpers.record_strategies import volume_record


@pytest.fixture
def volumes(tmp_path: Path) -> VolumeFiles:
    return VolumeFiles(tmp_path / "volumes", "memory:///x", unlocked)


@pytest.fixture
def folder(volumes: VolumeFiles) -> Path:
    """A directory of a controller that died before the volume was on record."""
    path = volumes.folder / str(uuid.uuid4())
    path.mkdir(parents=True)
    return path


def test_empty_directory_is_removed_and_only_listed_in_check_mode(
    volumes: VolumeFiles, folder: Path
) -> None:
    (folder / f".{RECORD}.0123abcd.new").write_text("half")
    listed = volumes.sweep(0, check=True)
    assert [orphan.path for orphan in listed.removed] == [str(folder)]
    assert folder.exists()
    assert volumes.sweep(0, check=False) == listed
    assert not folder.exists()


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: (folder / "disk.qcow2").write_text("data"),
        lambda folder: (folder / "content").mkdir(),
        lambda folder: (folder / ".disk").write_text("data"),
    ],
    ids=["file", "directory", "hidden"],
)
def test_directory_with_data_and_without_a_record_is_retained(
    volumes: VolumeFiles, folder: Path, write: Callable[[Path], object]
) -> None:
    write(folder)
    result = volumes.sweep(0, check=False)
    assert result.removed == ()
    assert [(orphan.path, orphan.reason) for orphan in result.skipped] == [
        (str(folder), "it has no record of its owner, and contains data")
    ]
    assert len(list(folder.iterdir())) == 1


def test_young_directory_and_recorded_volume_are_retained(
    volumes: VolumeFiles, folder: Path
) -> None:
    record = volume_record()
    volumes.add(record)
    result = volumes.sweep(3600, check=False)
    assert result.removed == ()
    assert [orphan.path for orphan in result.skipped] == [str(folder)]
    assert folder.exists()
    assert volumes.find(record) == record


def test_attached_volume_is_not_deleted(volumes: VolumeFiles) -> None:
    record = volume_record()
    (volumes.add(record) / "disk.qcow2").write_text("data")
    attached = volumes.claim(record, attachment=Attachment(record.uuid, "web-1", "/data"))
    with pytest.raises(OperationRefused, match="attached to host web-1"):
        volumes.remove(attached)
    assert (volumes.path(record) / "disk.qcow2").read_text() == "data"
    assert volumes.remove(volumes.claim(attached, attachment=None))
    assert not volumes.path(record).exists()
