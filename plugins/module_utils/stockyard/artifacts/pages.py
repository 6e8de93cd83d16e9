# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files as pages: pages of zeroes are holes, equal pages are stored once, and the rest is
compressed in packs.

The memory of a derived template differs from its parent's in single pages all over, so content is
compared page by page, and transferred pack by pack. At any time, one pack is in memory.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from ..errors import ImageError
from ..model.artifact import PACK_PAGES, PAGE, ArtifactFile, Blob, Pack

# Bytes of SHA-256 that name a page: two pages with equal ones cannot be computed.
HASH = 20
LEVEL = 1
ZEROES = bytes(PAGE)
_RUN = struct.Struct("<III")
_PAGE_NUMBER = struct.Struct("<I")
# A run is a number of pages in sequence. No template comes near this many.
MOST_RUNS = 1 << 22
READ_PAGES = 256

Run = tuple[int, int, int]
Put = Callable[[bytes], Blob]


@dataclass
class Packer:
    """The pages of files, in packs.

    :param put: stores a pack.
    :param known_packs: packs that exist, with the hashes of their pages.
    """

    put: Put
    known_packs: Iterable[tuple[Pack, bytes]] = ()
    packs: list[Pack] = field(default_factory=list)
    runs: list[list[Run]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._slots: dict[bytes, int] = {}
        self._hashes: list[bytes] = []
        self._buffer = bytearray()
        self._pending: list[bytes] = []
        for pack, hashes in self.known_packs:
            if len(hashes) == pack.pages * HASH:
                self._take(pack, [hashes[start : start + HASH] for start in _steps(hashes)])

    def add(self, path: Path, report: Callable[[int], None]) -> int:
        """Add a file; return its size.

        :param report: receives the number of bytes that were read.
        """
        runs: list[Run] = []
        self.runs.append(runs)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            for number, page in _pages(file.fileno(), size, report):
                slot = self._slot(page)
                if (
                    runs
                    and runs[-1][0] + runs[-1][1] == number
                    and (runs[-1][2] + runs[-1][1] == slot)
                ):
                    runs[-1] = (runs[-1][0], runs[-1][1] + 1, runs[-1][2])
                else:
                    runs.append((number, 1, slot))
        # A reader that has a file already skips its packs.
        self._flush()
        return size

    def finish(self) -> tuple[list[Pack], bytes, list[bytes]]:
        """Return the packs that are used, the index, and the hashes of each pack's pages."""
        used = sorted(
            {
                slot // PACK_PAGES
                for runs in self.runs
                for _page, count, first in runs
                for slot in (first, first + count - 1)
            }
            | {
                number
                for runs in self.runs
                for _page, count, first in runs
                for number in range(first // PACK_PAGES, (first + count - 1) // PACK_PAGES + 1)
            }
        )
        position = {number: place for place, number in enumerate(used)}
        runs = [
            [
                (page + offset, part, position[slot // PACK_PAGES] * PACK_PAGES + slot % PACK_PAGES)
                for page, count, first in file_runs
                for offset, part, slot in _within_packs(first, count)
            ]
            for file_runs in self.runs
        ]
        return (
            [self.packs[number] for number in used],
            encode_index(runs),
            [self._hashes[number] for number in used],
        )

    def _slot(self, page: bytes) -> int:
        name = hashlib.sha256(page).digest()[:HASH]
        slot = self._slots.get(name)
        if slot is None:
            slot = len(self.packs) * PACK_PAGES + len(self._pending)
            self._slots[name] = slot
            self._pending.append(name)
            self._buffer += page
            if len(self._pending) == PACK_PAGES:
                self._flush()
        return slot

    def _flush(self) -> None:
        if self._pending:
            blob = self.put(zlib.compress(self._buffer, LEVEL))
            names, self._pending, self._buffer = self._pending, [], bytearray()
            self._take(Pack(blob, len(names)), names)

    def _take(self, pack: Pack, names: list[bytes]) -> None:
        first = len(self.packs) * PACK_PAGES
        for offset, name in enumerate(names):
            self._slots.setdefault(name, first + offset)
        self.packs.append(pack)
        self._hashes.append(b"".join(names))


def encode_index(files: list[list[Run]]) -> bytes:
    """Return the places of pages in files."""
    parts = [struct.pack("<I", len(files))]
    for runs in files:
        parts.append(struct.pack("<I", len(runs)))
        parts += [_RUN.pack(*run) for run in runs]
    return zlib.compress(b"".join(parts), 6)


def decode_index(
    data: bytes, files: tuple[ArtifactFile, ...], packs: tuple[Pack, ...]
) -> list[list[Run]]:
    """Return the places of pages in files, in pages that exist and within the files.

    :raises ImageError: if the index contains anything else.
    """
    largest = 8 * len(files) + _RUN.size * MOST_RUNS
    raw = inflate(data, largest, exact=False)
    position, result = 4, []
    if len(raw) < 4 or struct.unpack_from("<I", raw)[0] != len(files):
        raise _malformed("the index has another number of files")
    for file in files:
        if len(raw) < position + 4:
            raise _malformed("the index is truncated")
        (count,) = struct.unpack_from("<I", raw, position)
        position += 4
        if len(raw) < position + count * _RUN.size:
            raise _malformed("the index is truncated")
        runs = list(_RUN.iter_unpack(raw[position : position + count * _RUN.size]))
        position += count * _RUN.size
        _check_runs(runs, file, packs)
        result.append(runs)
    if position != len(raw):
        raise _malformed("the index is too long")
    return result


def restore(
    paths: Mapping[str, Path | None],
    files: tuple[ArtifactFile, ...],
    packs: tuple[Pack, ...],
    index: bytes,
    fetch: Callable[[Blob], bytes],
) -> None:
    """Write files from their pages. Packs of which no page is needed are not fetched.

    :param paths: the path of each new file; ``None`` for a file that is not needed.
    :param fetch: returns the content of a blob, whose digest was verified.
    :raises ImageError: if a pack or the index has another size than declared.
    """
    places: dict[int, list[tuple[int, int, int, int]]] = {}
    descriptors: list[int] = []
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        for file, runs in zip(files, decode_index(index, files, packs), strict=True):
            path = paths[file.name]
            if path is None:
                continue
            descriptor = os.open(path, flags, 0o600)
            descriptors.append(descriptor)
            os.truncate(descriptor, file.size)
            for page, count, slot in runs:
                length = min(count * PAGE, file.size - page * PAGE)
                place = (descriptor, page * PAGE, length, slot % PACK_PAGES * PAGE)
                places.setdefault(slot // PACK_PAGES, []).append(place)
        for number, pack in enumerate(packs):
            if number not in places:
                continue
            raw = inflate(fetch(pack.blob), pack.pages * PAGE)
            for descriptor, offset, length, start in places.pop(number):
                _write(descriptor, raw[start : start + length], offset)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def content_digest(
    prefix: str,
    files: tuple[ArtifactFile, ...],
    packs: tuple[Pack, ...],
    index: bytes,
    hashes: bytes,
) -> str:
    """Return a digest of the files whose names begin with a prefix: of names, sizes and pages. It
    is empty if there are none.

    :param hashes: the hashes of the pages of all packs.
    :raises ImageError: if the index names other pages than those.
    """
    if not any(file.name.startswith(prefix) for file in files):
        return ""
    first_pages = [0, *accumulate(pack.pages for pack in packs)]
    if len(hashes) != first_pages[-1] * HASH:
        raise _malformed("it has the hashes of other pages")
    digest = hashlib.sha256()
    for file, runs in zip(files, decode_index(index, files, packs), strict=True):
        if not file.name.startswith(prefix):
            continue
        digest.update(f"{file.name} {file.size}\n".encode())
        for page, count, slot in runs:
            pack, offset = divmod(slot, PACK_PAGES)
            start = (first_pages[pack] + offset) * HASH
            # Page by page: artifacts with equal files can have other runs.
            for number in range(count):
                name = hashes[start + number * HASH : start + (number + 1) * HASH]
                digest.update(_PAGE_NUMBER.pack(page + number) + name)
    return digest.hexdigest()


def inflate(data: bytes, size: int, *, exact: bool = True) -> bytes:
    """Return decompressed content, of which no more than the declared size is ever in memory.

    :raises ImageError: if it has another size, or is not compressed.
    """
    decompressor = zlib.decompressobj()
    try:
        raw = decompressor.decompress(data, size + 1)
    except zlib.error as error:
        raise _malformed(f"its content cannot be decompressed ({error})") from error
    complete = decompressor.eof and not decompressor.unused_data
    if len(raw) > size or not complete or (exact and len(raw) != size):
        raise _malformed(f"its content is larger or smaller than the declared {size} bytes")
    return raw


def _pages(
    descriptor: int, size: int, report: Callable[[int], None]
) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the content of each page that is no hole and not zero. The last page is
    filled with zeroes.
    """
    position = 0
    while position < size:
        try:
            position = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:
            break
        position -= position % PAGE
        end = min(size, os.lseek(descriptor, position, os.SEEK_HOLE))
        while position < end:
            data = os.pread(descriptor, READ_PAGES * PAGE, position)
            if not data:
                raise ImageError("a file of the template became shorter while it was read.")
            for start in range(0, len(data), PAGE):
                page = data[start : start + PAGE]
                if len(page) < PAGE:
                    page += bytes(PAGE - len(page))
                if page != ZEROES:
                    yield (position + start) // PAGE, page
            position += len(data) + -len(data) % PAGE
            report(len(data))


def _check_runs(runs: list[Run], file: ArtifactFile, packs: tuple[Pack, ...]) -> None:
    """Check that runs are in ascending order, within the file, and each within one pack."""
    end, pages = 0, -(-file.size // PAGE)
    for page, count, slot in runs:
        pack, offset = divmod(slot, PACK_PAGES)
        if page < end or count < 1 or page + count > pages:
            raise _malformed(f"its index names pages outside of the file {file.name}")
        if pack >= len(packs) or offset + count > packs[pack].pages:
            raise _malformed("its index names pages that do not exist")
        end = page + count


def _within_packs(first: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Yield parts of a run that are each in one pack: offset, number of pages, first slot."""
    offset = 0
    while offset < count:
        slot = first + offset
        part = min(count - offset, PACK_PAGES - slot % PACK_PAGES)
        yield offset, part, slot
        offset += part


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def _steps(hashes: bytes) -> range:
    return range(0, len(hashes), HASH)


def _malformed(cause: str) -> ImageError:
    return ImageError(
        "the artifact is damaged.", cause=cause, remedy="push or save the template again"
    )
