# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are preloaded into a template: the digests of their contents, which decide the
generation.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from ...errors import InvalidInput
from ...guest.archive import pack_tree
from ...model.preload import Preload, reference
from ...model.template import TemplateSpec
from ...paths import expand_user


def resolved(spec: TemplateSpec) -> TemplateSpec:
    """Return the declaration with the digest of every file that it names.

    :raises InvalidInput: if a file cannot be read.
    """
    if all(item.digest for item in spec.image.preload):
        return spec
    preloads = tuple(replace(item, digest=_digest(item)) for item in spec.image.preload)
    return replace(
        spec,
        image=replace(spec.image, preload=preloads),
        build=replace(spec.build, preload=preloads),
    )


def _digest(item: Preload) -> str:
    if item.kind == "image":
        return reference(item.source).digest
    path = expand_user(item.source)
    try:
        if item.kind == "build":
            return _of_tree(path)
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInput(
            f"preload: {item.kind} cannot be read.",
            name=str(path),
            cause=str(error),
            remedy="name a path on the machine that opens the hypervisor",
        ) from error


def _of_tree(path: Path) -> str:
    if not (path / "Dockerfile").is_file():
        raise InvalidInput(
            "preload: the directory has no Dockerfile.",
            name=str(path),
            remedy="name the directory of the Dockerfile",
        )
    digest = _Summed()
    pack_tree(digest, path)
    return digest.sum.hexdigest()


class _Summed:
    """A stream that keeps only the checksum of an archive."""

    def __init__(self) -> None:
        self.sum = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sum.update(data)
        return len(data)
