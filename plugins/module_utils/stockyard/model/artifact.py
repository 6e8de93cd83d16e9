# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Artifacts: frozen templates outside of a hypervisor, as values.

An artifact is an OCI image manifest with a configuration and packs as layers. The configuration is
signed. It names all other content by its digest, so the signature covers everything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput
from . import naming
from .template import TemplateRecord

SCHEMA = 1
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.stockyard.template.v1"
CONFIG_TYPE = "application/vnd.stockyard.template.config.v1+json"
PACK_TYPE = "application/vnd.stockyard.template.pages.v1+zlib"
INDEX_TYPE = "application/vnd.stockyard.template.index.v1+zlib"
HASHES_TYPE = "application/vnd.stockyard.template.hashes.v1"
# The names of files that belong to the image of a template begin so.
IMAGE_FILE = "image-"
SIGNATURE, KEY = "stockyard.template.signature", "stockyard.template.key"
# The largest documents and pieces that a reader accepts, in bytes.
LARGEST_DOCUMENT = 4 << 20
LARGEST_FILE = 1 << 44
LARGEST_INDEX = 1 << 26
PAGE = 4096
PACK_PAGES = 2048
MOST_PACKS = 1 << 16
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(https?://)?([A-Za-z0-9.-]+(?::[0-9]{{1,5}})?)/({_PART}(?:/{_PART})*)"
    r"(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})|@(sha256:[0-9a-f]{64}))?"
)
_FILE = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


@dataclass(frozen=True)
class Reference:
    """An artifact in a registry.

    :param registry: its URL, without a path.
    :param repository: the name of the repository.
    :param tag: the tag or the digest; empty for the generation of the template.
    """

    registry: str
    repository: str
    tag: str = ""

    def __str__(self) -> str:
        registry = self.registry.removeprefix("https://")
        sign = "@" if self.tag.startswith("sha256:") else ":"
        return (
            f"{registry}/{self.repository}{sign}{self.tag}"
            if self.tag
            else (f"{registry}/{self.repository}")
        )


def reference(text: str) -> Reference:
    """Return a reference to an artifact.

    :raises InvalidInput: if the text is anything else.
    """
    match = _REFERENCE.fullmatch(text)
    if not match or len(text) > 1024:
        raise InvalidInput(
            f"{naming.shown(text)} is not the reference of an artifact.",
            remedy="write a reference such as registry.example.com/team/docker:5f3c6a1d2b9e",
        )
    return Reference(f"{match[1] or 'https://'}{match[2]}", match[3], match[4] or match[5] or "")


@dataclass(frozen=True)
class Blob:
    """Content that is named by its digest.

    :param digest: its SHA-256, with the prefix ``sha256:``.
    :param size: its size in bytes.
    """

    digest: str
    size: int

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.digest):
            raise InvalidInput(f"{naming.shown(self.digest)} is not a SHA-256 digest.")
        naming.whole("size", self.size, 0, LARGEST_FILE)


@dataclass(frozen=True)
class Pack:
    """Pages that are compressed together.

    :param pages: the number of pages.
    """

    blob: Blob
    pages: int

    def __post_init__(self) -> None:
        naming.whole("pages", self.pages, 1, PACK_PAGES)
        # zlib adds a few bytes to content that it cannot compress.
        naming.whole("size of a pack", self.blob.size, 1, PACK_PAGES * PAGE + (1 << 16))


@dataclass(frozen=True)
class ArtifactFile:
    """A file of a template.

    :param name: its name in the artifact.
    :param size: its size in bytes.
    """

    name: str
    size: int

    def __post_init__(self) -> None:
        if not _FILE.fullmatch(self.name):
            raise InvalidInput(f"{naming.shown(self.name)} is not the name of a template's file.")
        naming.whole("size", self.size, 0, LARGEST_FILE)


@dataclass(frozen=True)
class Artifact:
    """The configuration of an artifact.

    :param record: the record of the template. Its platform is that of the freeze.
    :param machine: the properties of its machine, as its provider needs them.
    :param files: its files, in the order of the index.
    :param packs: the pages of all files.
    :param index: the places of pages in files.
    :param hashes: the hashes of the pages of all packs, in their order.
    :param provider: the kind of the hypervisor.
    """

    record: TemplateRecord
    machine: dict[str, Any]
    files: tuple[ArtifactFile, ...]
    packs: tuple[Pack, ...]
    index: Blob
    hashes: Blob
    provider: str
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        naming.whole("schema", self.schema, 1, 1 << 31)
        if self.schema > SCHEMA:
            raise InvalidInput(
                f"the artifact has schema {self.schema}, and this version of stockyard reads "
                f"schemas up to {SCHEMA}.",
                remedy="update stockyard on this controller",
            )
        naming.line("provider", self.provider, 32)
        if not 1 <= len(self.files) <= 64 or len({file.name for file in self.files}) != len(
            self.files
        ):
            raise InvalidInput("the artifact has no files, too many, or one of them twice.")
        if len(self.packs) > MOST_PACKS:
            raise InvalidInput("the artifact has too many packs.")
        naming.whole("size of the index", self.index.size, 1, LARGEST_INDEX)
        naming.whole("size of the hashes", self.hashes.size, 0, LARGEST_INDEX)
        if self.record.phase != "frozen":
            raise InvalidInput("the template of the artifact is not frozen.")

    @property
    def blobs(self) -> tuple[tuple[str, Blob], ...]:
        """Return the media type and the blob of all content but the configuration."""
        return (
            (INDEX_TYPE, self.index),
            *((PACK_TYPE, pack.blob) for pack in self.packs),
            (HASHES_TYPE, self.hashes),
        )
