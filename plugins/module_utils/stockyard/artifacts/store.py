# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of places for artifacts: a registry or a file."""

from __future__ import annotations

from typing import Protocol

from ..model.artifact import Blob


class ArtifactReader(Protocol):
    """A place with one artifact."""

    def manifest(self) -> bytes | None:
        """Return the manifest, unverified; ``None`` if the artifact does not exist."""

    def read(self, blob: Blob) -> bytes:
        """Return the content of a blob, verified, of no more than the declared size.

        :raises ImageError: if the content does not exist, or was changed or truncated.
        """


class ArtifactWriter(Protocol):
    """A place for one artifact."""

    def has(self, blob: Blob) -> bool:
        """Return whether a blob exists already."""

    def write(self, blob: Blob, data: bytes) -> None:
        """Store a blob."""

    def finish(self, manifest: bytes) -> None:
        """Store the manifest: from now on, the artifact exists."""
