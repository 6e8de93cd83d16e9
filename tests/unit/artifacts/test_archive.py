# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with artifacts: complete or absent, and read without trust."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from stockyard import ImageError, InvalidInput
from stockyard.artifacts.archive import ArchiveReader, ArchiveWriter
from stockyard.artifacts.documents import blob_of

CONTENT = b"content"
BLOB = blob_of(CONTENT)
MANIFEST = b'{"schemaVersion": 2}'


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A file with one blob."""
    path = tmp_path / "template.tar"
    with closing(ArchiveWriter(path)) as writer:
        assert not writer.has(BLOB)
        writer.write(BLOB, CONTENT)
        assert writer.has(BLOB)
        assert not path.exists()
        writer.finish(MANIFEST)
    return path


def test_file_has_the_content_that_was_written(saved: Path) -> None:
    with closing(ArchiveReader(saved)) as reader:
        assert reader.manifest() == MANIFEST
        assert reader.read(BLOB) == CONTENT
        with pytest.raises(ImageError, match="missing"):
            reader.read(blob_of(b"other"))
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    with closing(ArchiveWriter(tmp_path / "template.tar")) as writer:
        writer.write(BLOB, CONTENT)
    assert list(tmp_path.iterdir()) == []


KILLED_WRITER = """
import os, sys
from pathlib import Path
from stockyard.artifacts.archive import ArchiveWriter
from stockyard.artifacts.documents import blob_of

writer = ArchiveWriter(Path(sys.argv[1]))
writer.write(blob_of(b"content"), b"content")
os.kill(os.getpid(), 9)
"""


def kill_a_writer(path: Path) -> None:
    """Write a file in a process that is killed before the file is complete."""
    command = [sys.executable, "-c", KILLED_WRITER, str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, check=False, env=environment).returncode == -signal.SIGKILL


def test_file_of_a_killed_writer_is_deleted_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "template.tar"
    kill_a_writer(path)
    (abandoned,) = tmp_path.iterdir()
    assert abandoned.name.startswith(".template.tar.")
    with closing(ArchiveWriter(path)) as writer:
        assert not abandoned.exists()
        writer.write(BLOB, CONTENT)
        writer.finish(MANIFEST)
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_running_writers_and_of_other_paths_stay(tmp_path: Path) -> None:
    kill_a_writer(tmp_path / "other.tar")
    (abandoned,) = tmp_path.iterdir()
    # A link is followed by no writer.
    linked = tmp_path / ".template.tar.x.new"
    linked.symlink_to(abandoned)
    path = tmp_path / "template.tar"
    with closing(ArchiveWriter(path)) as first, closing(ArchiveWriter(path)) as second:
        for writer in (first, second):
            writer.write(BLOB, CONTENT)
            writer.finish(MANIFEST)
    assert sorted(tmp_path.iterdir()) == sorted([abandoned, linked, path])


def read_all(path: Path) -> None:
    with closing(ArchiveReader(path)) as reader:
        reader.manifest()
        reader.read(BLOB)


def test_truncated_file_is_refused_wherever_it_ends(saved: Path) -> None:
    data = saved.read_bytes()
    for length in (0, 100, 512, 1024, 1600, 2600):
        saved.write_bytes(data[:length])
        with pytest.raises(ImageError, match=r"damaged|changed or truncated"):
            read_all(saved)


def test_changed_byte_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes().replace(CONTENT, b"CONTENT"))
    with closing(ArchiveReader(saved)) as reader, pytest.raises(ImageError, match="changed"):
        reader.read(BLOB)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        member("../../etc/passwd"),
        member("/etc/passwd"),
        member("blobs/sha256/../../../etc/passwd"),
        member(f"blobs/sha256/{'0' * 63}"),
        member("evil"),
        member("index.json"),
        member(f"blobs/sha256/{'0' * 64}", tarfile.SYMTYPE, "/etc/passwd"),
        member(f"blobs/sha256/{'0' * 64}", tarfile.LNKTYPE, "index.json"),
        member(f"blobs/sha256/{'0' * 64}", tarfile.DIRTYPE),
        member(f"blobs/sha256/{'0' * 64}", tarfile.CHRTYPE),
        member(f"blobs/sha256/{'0' * 64}", tarfile.FIFOTYPE),
    ],
)
def test_member_that_is_no_part_of_an_artifact_is_refused(
    saved: Path, entry: tarfile.TarInfo
) -> None:
    with tarfile.open(saved, "a") as tar:
        tar.addfile(entry, io.BytesIO())
    before = {path: path.stat().st_mtime_ns for path in saved.parent.iterdir()}
    with pytest.raises(ImageError, match="damaged"):
        ArchiveReader(saved)
    assert {path: path.stat().st_mtime_ns for path in saved.parent.iterdir()} == before


@pytest.mark.parametrize("size", [1 << 30, 1 << 80, -512])
def test_header_of_any_size_is_not_read(saved: Path, size: int) -> None:
    for name, kind, message in (
        ("pax", tarfile.XHDTYPE, "pax.*not an ordinary file"),
        (f"blobs/sha256/{'0' * 64}", tarfile.REGTYPE, "impossible size|is missing"),
    ):
        header = member(name, kind)
        header.size = size
        with saved.open("r+b") as file:
            file.write(header.tobuf(tarfile.GNU_FORMAT))
            file.truncate(2 << 30)
        with pytest.raises(ImageError, match=message):
            ArchiveReader(saved)


def test_compressed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "template.tar"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(member("oci-layout"), io.BytesIO())
    with pytest.raises(ImageError, match="damaged"):
        ArchiveReader(path)


def test_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        ArchiveReader(tmp_path / "absent.tar")
    with pytest.raises(InvalidInput, match="cannot be written"):
        ArchiveWriter(tmp_path / "absent" / "template.tar")
