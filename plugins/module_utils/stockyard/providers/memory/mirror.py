# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in for a Debian mirror, and for the images that are built from it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from ...errors import ImageError
from ...model import codec
from ...model.recipe import Recipe

VERSION = "1"


class Mirror:
    """A file of package versions that tests write, and what was in each image that was built.

    :param folder: holds ``mirror.json`` and ``images``.
    """

    def __init__(self, folder: Path) -> None:
        self._packages = folder / "mirror.json"
        self._images = folder / "images"

    def resolve(self, recipe: Recipe) -> dict[str, str]:
        """The version of each package today.

        :raises ImageError: when the file cannot be read.
        """
        try:
            there = json.loads(self._packages.read_text())
            return {name: str(there.get(name, VERSION)) for name in recipe.packages}
        except FileNotFoundError:
            return dict.fromkeys(recipe.packages, VERSION)
        except (OSError, ValueError, AttributeError) as error:
            raise ImageError(
                "the mirror cannot be read.", name=str(self._packages), cause=str(error)
            ) from error

    def build(self, recipe: Recipe) -> str:
        """Have an image of today's packages; returns its digest."""
        versions = self.resolve(recipe)
        digest = codec.digest({"recipe": recipe, "versions": versions})
        try:
            self._images.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._image(digest).write_text(json.dumps(versions))
        except OSError as error:
            raise ImageError(
                "the image cannot be written.", name=f"image {digest[:12]}", cause=str(error)
            ) from error
        return digest

    def versions(self, digest: str) -> dict[str, str]:
        """What is in an image."""
        try:
            return {
                str(name): str(version)
                for name, version in json.loads(self._image(digest).read_text()).items()
            }
        except (OSError, ValueError, AttributeError):
            return {}

    def prune(self, used: set[str], older_than: float, own: frozenset[str]) -> list[str]:
        """Remove every image but those and young ones, unless these are the caller's; returns their
        names.
        """
        there = self._images.glob("*.json") if self._images.exists() else ()
        unused = [p for p in there if p.stem not in used]
        gone = [p for p in unused if p.stem in own or time.time() - p.stat().st_mtime >= older_than]
        for path in gone:
            path.unlink(missing_ok=True)
        return sorted(path.stem for path in gone)

    def _image(self, digest: str) -> Path:
        return self._images / f"{digest}.json"
