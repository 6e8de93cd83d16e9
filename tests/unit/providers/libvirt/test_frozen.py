# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a frozen template: flushed before they count, and compared before each fork."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard.clock import Deadline
from stockyard.errors import ImageError
from stockyard.providers.libvirt import frozen
from stockyard.providers.libvirt.provider import LibvirtProvider
from tests.helpers.record_strategies import full_branch
from tests.helpers.samples import host_record, template_record


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


@pytest.mark.parametrize(("read_only_ram", "expected"), [(False, 0o600), (True, 0o400)])
def test_frozen_files_are_read_only(folder: Path, read_only_ram: bool, expected: int) -> None:
    (folder / "ram").chmod(0o600)
    frozen.seal(folder, "template base", read_only_ram)
    modes = {part: (folder / part).stat().st_mode & 0o777 for part in frozen.PARTS}
    assert modes == {"state": 0o400, frozen.DISK: 0o400, "ram": expected}


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


@pytest.mark.parametrize(("read_only_ram", "expected"), [(False, 0o600), (True, 0o400)])
@pytest.mark.parametrize("part", ["ram", "ram-0", frozen.DISK])
def test_files_of_a_branch_are_read_only_and_compared(
    folder: Path, part: str, read_only_ram: bool, expected: int
) -> None:
    (folder / "ram-0").write_bytes(b"module")
    parts = (*frozen.PARTS, "ram-0")
    checksums = frozen.seal_branch(folder, parts, read_only_ram)
    record = replace(full_branch(), checksums=checksums)
    modes = {name: (folder / name).stat().st_mode & 0o777 for name in parts}
    assert modes == {"state": 0o400, frozen.DISK: 0o400, "ram": expected, "ram-0": expected}
    frozen.verify_branch(folder, record, parts)
    (folder / part).chmod(0o600)
    (folder / part).write_bytes(b"other")
    with pytest.raises(ImageError, match="is damaged") as caught:
        frozen.verify_branch(folder, record, parts)
    assert str(folder / part) in caught.value.cause


@pytest.mark.parametrize("mode", ["instant", "linked", "full"])
def test_fork_of_a_changed_template_is_refused_before_anything_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    provider = object.__new__(LibvirtProvider)
    monkeypatch.setattr(provider, "_folder", lambda record: tmp_path / record.uuid, raising=False)
    template, host = template_record(), host_record()
    source = tmp_path / template.uuid
    source.mkdir()
    for part in frozen.PARTS:
        (source / part).write_bytes(part.encode())
    template = replace(template, checksums=frozen.seal(source, "template base"))
    (source / "state").chmod(0o600)
    (source / "state").write_bytes(b"other")
    with pytest.raises(ImageError, match="checksum differs"):
        provider.fork(host, template, mode, Deadline(5))
    with pytest.raises(ImageError, match="checksum differs"):
        provider.derive_template(template_record(), template, Deadline(5))
    assert [path.name for path in tmp_path.iterdir()] == [template.uuid]
