# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files as pages: what is written is what was read, once, and never more than declared."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from stockyard import ImageError
from stockyard.artifacts.documents import blob_of
from stockyard.artifacts.pages import (
    HASH,
    Packer,
    content_digest,
    decode_index,
    encode_index,
    inflate,
    restore,
)
from stockyard.model.artifact import PACK_PAGES, PAGE, ArtifactFile, Blob, Pack


class Blobs(dict[str, bytes]):
    """Blobs in memory."""

    def put(self, data: bytes) -> Blob:
        blob = blob_of(data)
        self[blob.digest] = data
        return blob

    def get_blob(self, blob: Blob) -> bytes:
        return self[blob.digest]


def random_bytes(pages: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(pages * PAGE)  # noqa: S311  # not secret


def pack(
    blobs: Blobs, paths: list[Path], known: tuple[tuple[Pack, bytes], ...] = ()
) -> tuple[tuple[ArtifactFile, ...], tuple[Pack, ...], bytes, list[bytes]]:
    packer = Packer(blobs.put, known)
    files = tuple(ArtifactFile(path.name, packer.add(path, lambda _count: None)) for path in paths)
    packs, index, hashes = packer.finish()
    return files, tuple(packs), index, hashes


def check_restored(blobs: Blobs, paths: list[Path], target: Path, *arguments: Any) -> None:
    files, packs, index, _hashes = pack(blobs, paths, *arguments)
    target.mkdir()
    restore({file.name: target / file.name for file in files}, files, packs, index, blobs.get_blob)
    for path in paths:
        assert (target / path.name).read_bytes() == path.read_bytes()


def test_files_are_restored_with_their_holes(tmp_path: Path) -> None:
    ram, disk, empty = tmp_path / "ram", tmp_path / "disk", tmp_path / "empty"
    with ram.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(5 * PAGE + 17)
        file.write(random_bytes(3, 1))
        file.seek(40 << 20)
        file.write(bytes(8 * PAGE) + random_bytes(PACK_PAGES + 3, 2))
    # The end of a file is in no page completely.
    disk.write_bytes(random_bytes(2, 3) + b"tail")
    empty.touch()
    check_restored(Blobs(), [ram, disk, empty], tmp_path / "new")
    assert (tmp_path / "new" / "ram").stat().st_blocks * 512 < 12 << 20


def test_equal_pages_are_stored_once(tmp_path: Path) -> None:
    content = random_bytes(64, 1)
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(content + content)
    second.write_bytes(random_bytes(1, 9) + content)
    blobs = Blobs()
    assert sum(item.pages for item in pack(blobs, [first, second])[1]) == 65
    check_restored(blobs, [first, second], tmp_path / "new")


def test_pages_that_exist_are_not_stored_again_wherever_they_are(tmp_path: Path) -> None:
    parent, child = tmp_path / "parent", tmp_path / "child"
    pages = [random_bytes(1, seed) for seed in range(5000)]
    parent.write_bytes(b"".join(pages))
    blobs = Blobs()
    _files, packs, _index, hashes = pack(blobs, [parent])
    known = tuple(zip(packs, hashes, strict=True))
    # A tenth of all pages changed, all over.
    for number in range(0, 5000, 10):
        pages[number] = random_bytes(1, 10000 + number)
    child.write_bytes(b"".join(pages))
    first_size = sum(map(len, blobs.values()))
    check_restored(blobs, [child], tmp_path / "new", known)
    assert sum(map(len, blobs.values())) - first_size < first_size * 0.12


def test_known_packs_without_a_used_page_are_not_named(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(random_bytes(PACK_PAGES * 3, 1))
    new.write_bytes(old.read_bytes()[PACK_PAGES * PAGE : PACK_PAGES * PAGE + 4 * PAGE] * 2)
    blobs = Blobs()
    _files, packs, _index, hashes = pack(blobs, [old])
    assert len(packs) == 3
    known = tuple(zip(packs, hashes, strict=True))
    result = pack(blobs, [new], known)
    assert result[1] == (packs[1],)
    assert [len(item) for item in result[3]] == [PACK_PAGES * HASH]
    check_restored(blobs, [new], tmp_path / "restored", known)


def test_packs_of_files_that_are_not_needed_are_not_fetched(tmp_path: Path) -> None:
    image, ram = tmp_path / "image", tmp_path / "ram"
    image.write_bytes(random_bytes(10, 1))
    ram.write_bytes(random_bytes(10, 2))
    blobs = Blobs()
    files, packs, index, _hashes = pack(blobs, [image, ram])
    fetched: list[Blob] = []

    def fetch(blob: Blob) -> bytes:
        fetched.append(blob)
        return blobs[blob.digest]

    restore({"image": None, "ram": tmp_path / "new"}, files, packs, index, fetch)
    assert fetched == [packs[1].blob]
    assert (tmp_path / "new").read_bytes() == ram.read_bytes()


@pytest.mark.parametrize(
    "data",
    [
        zlib.compress(bytes(PAGE + 1)),
        zlib.compress(bytes(PAGE - 1)),
        # A thousand times as much as declared.
        zlib.compress(bytes(PAGE * 1000)),
        zlib.compress(bytes(PAGE)) + b"x",
        zlib.compress(random_bytes(1, 1))[:-2],
        b"no zlib",
        b"",
    ],
)
def test_content_of_another_size_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="damaged"):
        inflate(data, PAGE)


FILES = (ArtifactFile("ram", 10 * PAGE + 1),)
PACKS = (Pack(Blob(f"sha256:{'0' * 64}", 10), 8),)


@pytest.mark.parametrize(
    "runs",
    [
        [(11, 1, 0)],
        [(10, 2, 0)],
        [(0, 0, 0)],
        [(0, 9, 0)],
        [(0, 1, 8)],
        [(0, 1, PACK_PAGES)],
        [(0, 2, 7)],
        [(3, 2, 0), (4, 1, 0)],
        [(5, 1, 0), (1, 1, 0)],
        [(0, 1 << 31, 0)],
    ],
)
def test_index_that_leads_outside_is_refused(runs: list[tuple[int, int, int]]) -> None:
    assert decode_index(
        encode_index(
            [
                [
                    (10, 1, 7),
                ]
            ]
        ),
        FILES,
        PACKS,
    ) == [[(10, 1, 7)]]
    with pytest.raises(ImageError, match="index names pages"):
        decode_index(encode_index([runs]), FILES, PACKS)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        struct.pack("<I", 2),
        struct.pack("<I", 1),
        struct.pack("<II", 1, 1),
        struct.pack("<II", 1, 1 << 30),
        struct.pack("<II", 1, 0) + b"x",
    ],
)
def test_malformed_index_is_refused(raw: bytes) -> None:
    with pytest.raises(ImageError, match="damaged"):
        decode_index(zlib.compress(raw), FILES, PACKS)


def test_digest_of_content_is_that_of_the_pages_wherever_they_are_stored(tmp_path: Path) -> None:
    image, ram = tmp_path / "image-disk", tmp_path / "ram"
    pages = [random_bytes(1, seed) for seed in range(6)]

    def digest(*paths: Path) -> str:
        files, packs, index, hashes = pack(Blobs(), list(paths))
        return content_digest("image-", files, packs, index, b"".join(hashes))

    image.write_bytes(b"".join(pages))
    ram.write_bytes(pages[4] + pages[1])
    first = digest(image)
    assert len(first) == 64
    assert digest(ram, image) == first
    assert digest(ram) == ""
    pages[2], pages[3] = pages[3], pages[2]
    image.write_bytes(b"".join(pages))
    assert digest(image) != first
    files, packs, index, hashes = pack(Blobs(), [image])
    with pytest.raises(ImageError, match="hashes of other pages"):
        content_digest("image-", files, packs, index, hashes[0][:-1])
