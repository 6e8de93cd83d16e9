# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of images from machines that can be hostile: their names are removed, so that they
replace no other image.
"""

from __future__ import annotations

import asyncio
import io
import json
import posixpath
import socket
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from typing import BinaryIO, cast

from ..guest.security.reader.streams import LIMIT

MANIFEST = "manifest.json"
# Other files of an archive that name images.
_INDEXES = ("repositories", "index.json", "oci-layout")
# The fields of an image in a manifest that Docker needs to load it.
_FIELDS = ("Config", "Layers", "LayerSources", "Parent")
# The longest manifest, header of a member, and padding after the archive, in bytes; and the largest
# number of members.
LONGEST, MOST_MEMBERS = 1 << 20, 10000


async def without_names(
    archive: AsyncIterator[bytes], images: Collection[str]
) -> AsyncGenerator[bytes, None]:
    """Return an archive whose images have no names.

    :param images: the ids of the images that can be parents in it.
    :raises ValueError: if the archive is not one that Docker writes.
    :raises tarfile.TarError: if it is no archive.
    """
    feeding_end, source = socket.socketpair()
    reading_end, target = socket.socketpair()
    _reader, feeder = await asyncio.open_connection(sock=feeding_end)
    reader, read_writer = await asyncio.open_connection(sock=reading_end)
    feeding = asyncio.create_task(_feed(archive, feeder))
    rewriting = asyncio.create_task(asyncio.to_thread(_rewrite, source, target, images))
    try:
        while block := await reader.read(LIMIT):
            yield block
        await rewriting
        await feeding
    finally:
        feeding.cancel()
        # The thread ends when its sockets do.
        feeder.close()
        read_writer.close()
        await asyncio.gather(feeding, rewriting, return_exceptions=True)


async def _feed(archive: AsyncIterator[bytes], feeder: asyncio.StreamWriter) -> None:
    try:
        async for block in archive:
            feeder.write(block)
            await feeder.drain()
    finally:
        feeder.close()


def _rewrite(source: socket.socket, target: socket.socket, images: Collection[str]) -> None:
    with source, target, source.makefile("rb") as original, target.makefile("wb") as copy:
        rewrite(cast("BinaryIO", original), cast("BinaryIO", copy), images)
        if original.read(LONGEST + 1)[LONGEST:]:
            raise ValueError("data follow the archive")


class _Metered:
    """A source that ends with an error if a header is too long: ``tarfile`` keeps it in memory."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.remaining = LONGEST

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        block = self._source.read(size)
        self.remaining -= len(block)
        if self.remaining < 0:
            raise ValueError("a header of the archive is too long")
        return block


def rewrite(original: BinaryIO, copy: BinaryIO, images: Collection[str]) -> None:
    """Copy an archive without the names of its images.

    :param images: the ids of the images that can be parents in it.
    """
    links: set[str] = set()
    source = _Metered(original)
    with (
        tarfile.open(fileobj=cast("BinaryIO", source), mode="r|") as archive,
        tarfile.open(fileobj=copy, mode="w|") as renamed,
    ):
        for number, member in enumerate(archive):
            if number == MOST_MEMBERS:
                raise ValueError("the archive has too many members")
            source.remaining = member.size + LONGEST
            name = _path(member, links)
            if name in _INDEXES:
                continue
            content = archive.extractfile(member) if member.isreg() else None
            if name == MANIFEST:
                if content is None or member.size > LONGEST:
                    raise ValueError("the manifest is no short file")
                manifest = _manifest(content.read(), images)
                member.size, content = len(manifest), io.BytesIO(manifest)
            renamed.addfile(_plain(member), content)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return the header of a member without its extended fields. Readers do not agree on the name
    of a member that has several.
    """
    header = tarfile.TarInfo(member.name)
    header.type, header.linkname, header.size = member.type, member.linkname, member.size
    header.mode, header.mtime = member.mode, member.mtime
    return header


def _path(member: tarfile.TarInfo, links: set[str]) -> str:
    """Return the path of a member inside the archive.

    :param links: the paths of the symbolic links before the member, which is added.
    :raises ValueError: if the member could be a file at another path.
    """
    name = posixpath.normpath(member.name)
    folders = name.split("/")[:-1]
    parents = {"/".join(folders[: depth + 1]) for depth in range(len(folders))}
    if member.name.startswith("/") or ".." in member.name.split("/") or parents & links:
        raise ValueError(f"{member.name} is outside the archive")
    if member.issym():
        # Docker writes links for layers that several images have.
        links.add(name)
    if not (member.isreg() or member.isdir() or member.issym()) or member.issparse():
        raise ValueError(f"{member.name} is no file, folder or symbolic link")
    if name in (MANIFEST, *_INDEXES) and not member.isreg():
        raise ValueError(f"{member.name} is no file")
    return name


def _manifest(text: bytes, images: Collection[str]) -> bytes:
    try:
        entries = json.loads(text)
    except RecursionError as error:
        raise ValueError("the manifest is nested too deeply") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("the manifest is no list of images")
    # Docker ignores the case of fields: any other field could be the list of names.
    images_without_names = [
        {"RepoTags": None} | {field: entry[field] for field in _FIELDS if field in entry}
        for entry in entries
    ]
    for entry in images_without_names:
        if entry.get("Parent") not in images:
            entry.pop("Parent", None)
    return json.dumps(images_without_names).encode()
