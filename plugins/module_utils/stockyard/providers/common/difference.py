# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages and images that a derived template gets, fetched by the controller: the guest has no
way out.
"""

from __future__ import annotations

from pathlib import Path

from ...clock import Deadline
from ...model.image import BuildOptions, ImageSpec
from . import debian
from .preloaded import write_items


def fetch(
    image: ImageSpec, build: BuildOptions, installed: str, folder: Path, deadline: Deadline
) -> dict[str, str]:
    """Write packages and images to a directory; return the versions of the packages.

    :raises ImageError: if one of them is not available.
    """
    versions: dict[str, str] = {}
    if image.packages:
        work = folder / "apt"
        work.mkdir()
        target = folder / "packages"
        name = "packages of a derived template"
        versions = debian.add(
            image.packages, image.suite, build, installed, work, target, deadline, name
        )
    if image.preload:
        write_items(build.preload, folder / "preload", deadline)
    return versions
