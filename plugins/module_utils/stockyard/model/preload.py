# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in a template's Docker before the freeze, as declared. Reads nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InvalidInput
from . import naming

# A file that `docker save` wrote; a root file system as a tar file; an image in a registry; a
# directory to build.
KINDS = ("archive", "rootfs", "image", "build")
# The useful part of Docker's own grammar of references: host, port, path, tag.
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"(?:[A-Za-z0-9.-]+(?::[0-9]{{1,5}})?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
)
_BY_DIGEST = re.compile(
    rf"(https?://)?([A-Za-z0-9.-]+(?::[0-9]{{1,5}})?)/({_PART}(?:/{_PART})*)"
    r"@sha256:([0-9a-f]{64})"
)


@dataclass(frozen=True)
class Preload:
    """One image, or the images of one archive.

    :param kind: ``archive``, ``rootfs``, ``image`` or ``build``.
    :param source: a path on the machine of the SDK; for ``image`` a reference by digest,
        ``[http://]registry/name@sha256:…``.
    :param name: its name in Docker; an archive contains its own names.
    :param digest: SHA-256 of the content, computed by the SDK; the only part that counts for the
        template's digest.
    """

    kind: str
    source: str
    name: str = ""
    digest: str = ""

    def __post_init__(self) -> None:
        naming.choice("preload", self.kind, KINDS)
        if not naming.line("preload", self.source, 4096):
            raise InvalidInput(
                f"preload: {self.kind} is empty.", remedy="declare a path, or a reference by digest"
            )
        if bool(self.name) == (self.kind == "archive"):
            remedy = "omit name for an archive, which contains names, and declare a name otherwise"
            raise InvalidInput(
                f"preload: {self.kind} and name {self.name!a} do not go together.", remedy=remedy
            )
        if self.name and (len(self.name) > 255 or not _NAME.fullmatch(self.name)):
            raise InvalidInput(
                f"preload: {naming.shown(self.name)} is not the name of an image.",
                remedy="write a name such as app:1.0",
            )
        if self.kind == "image":
            reference(self.source)


@dataclass(frozen=True)
class Reference:
    """An image in a registry.

    :param registry: its URL, without a path.
    """

    registry: str
    name: str
    digest: str


def reference(text: str) -> Reference:
    """Return a reference by digest. A tag is refused: its meaning can change, and a template's
    digest would not.

    :raises InvalidInput: if the text is anything else.
    """
    match = _BY_DIGEST.fullmatch(text)
    if not match:
        raise InvalidInput(
            f"preload: {naming.shown(text)} does not name an image by its digest.",
            remedy="write a reference such as registry.example/app@sha256:…",
        )
    return Reference(f"{match[1] or 'https://'}{match[2]}", match[3], match[4])
