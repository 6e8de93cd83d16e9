# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of images from hostile machines: no spelling of a name is left in them."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pytest

from stockyard.endpoint.image_archives import MANIFEST, rewrite

IMAGE = {"RepoTags": None, "Config": "config.json", "Layers": ["layer.tar"]}


def packed(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for header, content in members:
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return file.getvalue()


def manifest(entries: Any, name: str = MANIFEST) -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), json.dumps(entries).encode()


def rewritten(archive: bytes) -> bytes:
    copy = io.BytesIO()
    rewrite(io.BytesIO(archive), copy, ["sha256:parent"])
    return copy.getvalue()


def contents(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        files = {member.name: opened.extractfile(member) for member in opened}
        return {name: file.read() for name, file in files.items() if file}


@pytest.mark.parametrize("field", ["RepoTags", "repotags", "REPOTAGS", "RepoTag\u017f"])
def test_no_spelling_of_the_names_stays_in_the_manifest(field: str) -> None:
    """Go's decoder ignores the case of fields, and uses the last one."""
    entry = {**IMAGE, "RepoTags": ["own:v1"], field: ["victim:latest"]}
    copied = json.loads(contents(rewritten(packed(manifest([entry]))))[MANIFEST])
    assert copied == [IMAGE]


def test_only_known_parents_stay_in_the_manifest() -> None:
    parents = [{**IMAGE, "Parent": "sha256:parent"}, {**IMAGE, "parent": "sha256:victim"}]
    copied = json.loads(contents(rewritten(packed(manifest(parents))))[MANIFEST])
    assert copied == [parents[0], IMAGE]


def test_member_with_two_names_is_copied_under_the_checked_one() -> None:
    """Go's reader ignores the name of a sparse file if the other fields of one are missing."""
    header, content = manifest([{**IMAGE, "RepoTags": ["victim:latest"]}], "layer.tar")
    header.pax_headers = {"path": MANIFEST, "GNU.sparse.name": "layer.tar"}
    archive = packed((header, content))
    assert b"GNU.sparse.name" in archive
    copy = rewritten(archive)
    assert list(contents(copy)) == ["layer.tar"]
    assert MANIFEST.encode() not in copy
    assert b"GNU.sparse" not in copy


def test_sparse_member_is_refused() -> None:
    """A few bytes of a sparse file stand for any amount of zeros."""
    header = tarfile.TarInfo("layer.tar")
    header.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "layer.tar",
        "GNU.sparse.realsize": str(1 << 40),
    }
    archive = packed((header, b"1\n1099511627776\n0\n".ljust(512, b"\0")))
    with pytest.raises(ValueError, match="no file, folder or symbolic link"):
        rewritten(archive)


def test_files_keep_their_contents_modes_and_links() -> None:
    link = tarfile.TarInfo("b/layer.tar")
    link.type, link.linkname = tarfile.SYMTYPE, "../a/layer.tar"
    folder = tarfile.TarInfo("a")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
    layer = tarfile.TarInfo("a/layer.tar")
    layer.mode, layer.mtime = 0o640, 1_800_000_000
    long_name = tarfile.TarInfo("a/" + "x" * 200 + "\u00fc")
    copy = rewritten(packed((folder, b""), (layer, b"layer"), (link, b""), (long_name, b"long")))
    assert contents(copy) == {
        "a/layer.tar": b"layer",
        "b/layer.tar": b"layer",
        long_name.name: b"long",
    }
    with tarfile.open(fileobj=io.BytesIO(copy)) as opened:
        members = {member.name: member for member in opened}
    assert (members["a"].isdir(), members["a/layer.tar"].mode) == (True, 0o640)
    assert members["a/layer.tar"].mtime == 1_800_000_000
    assert members["b/layer.tar"].linkname == "../a/layer.tar"
