# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An artifact in a file: a tar file with the OCI image layout 1.0.

Members are read at their places in the file and are never extracted by their names.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import stat
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

from ..errors import ImageError, InvalidInput, OutOfSpace
from ..files import SUFFIX, move
from ..model import untrusted
from ..model.artifact import LARGEST_DOCUMENT, LARGEST_FILE, MANIFEST_TYPE, Blob
from .documents import blob_of, verified

INDEX, LAYOUT = "index.json", "oci-layout"
_BLOB = re.compile(r"blobs/sha256/[0-9a-f]{64}")
# Packs, the index, hashes and documents of the largest artifact.
MOST_MEMBERS = (1 << 17) + 8
NO_SPACE = 28


class ArchiveWriter:
    """A new file with one artifact. The file appears when it is complete.

    Until then it has a temporary name, and is locked. Temporary files without a lock are those of
    writers that were killed: the next writer of the same path deletes them.

    :param path: the path of the file.
    :param mode: its mode.
    """

    def __init__(self, path: Path, mode: int = 0o600) -> None:
        self.path = path
        self._mode = mode
        self._digests: set[str] = set()
        try:
            _delete_abandoned(path)
            self._file = _locked_file(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        self._tar = tarfile.open(fileobj=self._file, mode="w")  # noqa: SIM115  # closed by finish

    def has(self, blob: Blob) -> bool:
        """Return whether the file has a blob."""
        return blob.digest in self._digests

    def write(self, blob: Blob, data: bytes) -> None:
        """Add a blob."""
        self._digests.add(blob.digest)
        self._add(f"blobs/sha256/{blob.digest.removeprefix('sha256:')}", data)

    def finish(self, manifest: bytes) -> None:
        """Add the manifest, and give the file its name."""
        blob = blob_of(manifest)
        self.write(blob, manifest)
        descriptor = {"mediaType": MANIFEST_TYPE, "digest": blob.digest, "size": blob.size}
        self._add(INDEX, json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode())
        self._add(LAYOUT, b'{"imageLayoutVersion": "1.0.0"}')
        try:
            self._tar.close()
            self._file.flush()
            os.fchmod(self._file.fileno(), self._mode)
            # The file is locked until it has its name.
            move(Path(self._file.name), self.path)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def close(self) -> None:
        """Delete the file if it is not complete."""
        with suppress(OSError):
            self._file.close()
        Path(self._file.name).unlink(missing_ok=True)

    def _add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), 0o644
        try:
            self._tar.addfile(member, io.BytesIO(data))
        except OSError as error:
            raise _unwritable(self.path, error) from error


class ArchiveReader:
    """A file with one artifact.

    :param path: the path of the file.
    :raises ImageError: if the file is not such a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}
        try:
            # Another user's pipe would never be opened otherwise.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._file = open(descriptor, "rb")  # noqa: SIM115  # closed by close
        except OSError as error:
            raise InvalidInput(
                "the file cannot be read.", name=str(path), cause=str(error)
            ) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("it is not an ordinary file")
            self._scan()
        except (tarfile.TarError, ValueError, OSError, EOFError) as error:
            self._file.close()
            raise _damaged(path, str(error)) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def manifest(self) -> bytes | None:
        """Return the manifest."""
        try:
            index = untrusted.mapping(
                untrusted.parse(self._read(INDEX, LARGEST_DOCUMENT), longest=LARGEST_DOCUMENT),
                INDEX,
            )
            manifests = untrusted.items(untrusted.item(index, "manifests", INDEX), "manifests", 16)
            if len(manifests) != 1:
                raise untrusted.MalformedData(f"{INDEX} names {len(manifests)} manifests")
            descriptor = untrusted.mapping(manifests[0], "the descriptor")
            blob = Blob(
                untrusted.line(untrusted.item(descriptor, "digest", "the descriptor"), "digest"),
                untrusted.whole(
                    untrusted.item(descriptor, "size", "the descriptor"),
                    "size",
                    1,
                    LARGEST_DOCUMENT,
                ),
            )
        except (ValueError, InvalidInput) as error:
            raise _damaged(self.path, str(error)) from error
        return self.read(blob)

    def read(self, blob: Blob) -> bytes:
        """Return the content of a blob."""
        name = f"blobs/sha256/{blob.digest.removeprefix('sha256:')}"
        return verified(blob, self._read(name, blob.size))

    def _read(self, name: str, longest: int) -> bytes:
        offset, size = self._places.get(name, (0, -1))
        if size < 0 or size > longest:
            cause = f"{name} is missing" if size < 0 else f"{name} has {size} bytes"
            raise _damaged(self.path, cause)
        try:
            self._file.seek(offset)
            return self._file.read(size)
        except OSError as error:
            raise _damaged(self.path, str(error)) from error

    def _scan(self) -> None:
        """Note the places of all members.

        :raises ValueError: for a member that no artifact has.
        """
        # Not tarfile.open: it reads headers that extend others into memory, at any declared size.
        position = 0
        while (header := self._file.read(tarfile.BLOCKSIZE)).strip(b"\0"):
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            name = member.name
            if len(self._places) >= MOST_MEMBERS:
                raise ValueError("the file has too many members")
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                raise ValueError(f"{name[:80]!a} is not an ordinary file")
            if name not in (INDEX, LAYOUT) and not _BLOB.fullmatch(name):
                raise ValueError(f"{name[:80]!a} is not a part of an artifact")
            if name in self._places:
                raise ValueError(f"{name[:80]!a} exists twice")
            if not 0 <= member.size <= LARGEST_FILE:
                raise ValueError(f"{name[:80]!a} has an impossible size")
            position += tarfile.BLOCKSIZE
            self._places[name] = (position, member.size)
            position += -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            self._file.seek(position)
        missing = [name for name in (INDEX, LAYOUT) if name not in self._places]
        if missing:
            raise ValueError(f"{missing[0]} is missing")


def _locked_file(path: Path) -> IO[bytes]:
    """Create a locked temporary file next to a path, through a name that no other writer has."""
    while True:
        file: IO[bytes] = tempfile.NamedTemporaryFile(  # noqa: SIM115  # closed by the writer
            dir=path.parent, prefix=f".{path.name}.", suffix=SUFFIX, delete=False
        )
        # Some network file systems have no locks: there no writer deletes the file either.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(file.name):
            return file
        # Another writer deleted it before it was locked.
        file.close()


def _delete_abandoned(path: Path) -> None:
    """Delete temporary files of writers of this path that no longer run."""
    prefix = f".{path.name}."
    for candidate in list(path.parent.iterdir()):
        if candidate.name.startswith(prefix) and candidate.name.endswith(SUFFIX):
            # A file of another user, and one that is locked, stays.
            with suppress(OSError):
                _delete_unlocked(candidate)


def _delete_unlocked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(descriptor)


def _damaged(path: Path, cause: str) -> ImageError:
    return ImageError(
        "the file is not a saved template, or is damaged.",
        name=str(path),
        cause=cause,
        remedy="save the template again",
    )


def _unwritable(path: Path, error: OSError) -> InvalidInput | OutOfSpace:
    if error.errno == NO_SPACE:
        return OutOfSpace(
            "there is no space for the file.",
            name=str(path),
            remedy="free space, or name another directory",
        )
    return InvalidInput(
        "the file cannot be written.",
        name=str(path),
        cause=str(error),
        remedy="name a file in a directory that this user may write",
    )
