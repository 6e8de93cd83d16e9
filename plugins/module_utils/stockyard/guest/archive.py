# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files for a guest as a tar archive: all owned by root, directories included."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import IO, Protocol

from ..model.recipe import GuestFile

S_IFLNK = 0o120000


class Writable(Protocol):
    """Target of an archive."""

    def write(self, data: bytes, /) -> int:
        """Write bytes; return their number."""


def write_tar(target: Path, files: dict[str, GuestFile]) -> None:
    """Write files to an archive at a path."""
    with target.open("wb") as handle:
        pack(handle, files)


def pack(target: IO[bytes], files: dict[str, GuestFile]) -> None:
    """Write files as an archive to an open file."""
    with tarfile.open(fileobj=target, mode="w|") as archive:
        for path, content in sorted(files.items()):
            for parent in reversed(Path(path).parents[:-1]):
                _add_directory(archive, str(parent))
            archive.addfile(*_member(path, content))


def _add_directory(archive: tarfile.TarFile, path: str) -> None:
    if path.lstrip("/") not in archive.getnames():
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(entry)


def _member(path: str, content: GuestFile) -> tuple[tarfile.TarInfo, io.BytesIO]:
    entry = tarfile.TarInfo(path.lstrip("/"))
    if content.mode & S_IFLNK == S_IFLNK:
        entry.type, entry.linkname = tarfile.SYMTYPE, content.text
        return entry, io.BytesIO()
    data = content.text.encode()
    entry.size, entry.mode = len(data), content.mode
    return entry, io.BytesIO(data)


def pack_tree(target: Writable, folder: Path) -> None:
    """Write a directory as a reproducible archive: equal content gives equal bytes. Entries are
    sorted, owned by root and without times.
    """

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = 0
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for path in sorted(folder.rglob("*")):
            archive.add(path, str(path.relative_to(folder)), recursive=False, filter=plain)
