# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated Debian mirror, and the images that are built from it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from ...errors import ImageError
from ...files import write_atomic
from ...model import codec
from ...model.recipe import Recipe
from ..common.os_errors import translate_os_error

VERSION = "1"


class Mirror:
    """File of package versions that tests write, and the package versions of each image that was
    built.

    :param folder: contains ``mirror.json`` and ``images``.
    """

    def __init__(self, folder: Path) -> None:
        self._packages = folder / "mirror.json"
        self._images = folder / "images"

    def resolve(self, recipe: Recipe) -> dict[str, str]:
        """Return the current version of each package.

        :raises ImageError: if the file cannot be read.
        """
        try:
            versions = json.loads(self._packages.read_text())
            for name in recipe.packages:
                if versions.get(name, VERSION) is None:
                    raise ImageError(f"the mirror has no package {name}.", name="image")
            return {name: str(versions.get(name, VERSION)) for name in recipe.packages}
        except FileNotFoundError:
            return dict.fromkeys(recipe.packages, VERSION)
        except (OSError, ValueError, AttributeError) as error:
            raise ImageError(
                "the mirror cannot be read.", name=str(self._packages), cause=str(error)
            ) from error

    def build(self, recipe: Recipe) -> str:
        """Build an image with the current packages and return its digest."""
        versions = self.resolve(recipe)
        digest = codec.digest({"recipe": recipe, "versions": versions})
        with translate_os_error(
            "the image cannot be written.", f"image {digest[:12]}", error_type=ImageError
        ):
            self._images.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(self._image(digest), json.dumps(versions), durable=False)
        return digest

    def receive(self, digest: str, versions: bytes) -> None:
        """Record the package versions of an image that was built elsewhere.

        :raises ImageError: if the file cannot be written.
        """
        with translate_os_error(
            "the image cannot be written.", f"image {digest[:12]}", error_type=ImageError
        ):
            self._images.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(self._image(digest), versions, durable=False)

    def versions(self, digest: str) -> dict[str, str]:
        """Return the package versions of an image."""
        try:
            return {
                str(name): str(version)
                for name, version in json.loads(self._image(digest).read_text()).items()
            }
        except (OSError, ValueError, AttributeError):
            return {}

    def prune(
        self, used: set[str], older_than: float, own: frozenset[str], *, check: bool = False
    ) -> list[str]:
        """Delete all images except used ones and young ones, and return their names. Young images
        of the caller are deleted too.

        :param check: whether nothing is deleted.
        """
        paths = self._images.glob("*.json") if self._images.exists() else ()
        unused = [image for image in paths if image.stem not in used]
        expired = [
            image
            for image in unused
            if image.stem in own or time.time() - image.stat().st_mtime >= older_than
        ]
        for path in () if check else expired:
            path.unlink(missing_ok=True)
        return sorted(path.stem for path in expired)

    def _image(self, digest: str) -> Path:
        return self._images / f"{digest}.json"
