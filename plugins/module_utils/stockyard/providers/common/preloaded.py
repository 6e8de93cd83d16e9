# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preloaded files, copied to the directory in which an image is assembled; each digest is checked
again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from ...clock import Deadline
from ...errors import ImageError
from ...guest.archive import pack_tree
from ...model.preload import Preload, reference
from ...paths import expand_user
from .registry_images import fetch

LIST = "list.json"


def write_items(items: Iterable[Preload], folder: Path, deadline: Deadline) -> None:
    """Write all items, and the list that the guest's agent reads.

    :raises ImageError: if an item was changed since the declaration was read.
    """
    folder.mkdir()
    entries = []
    for number, item in enumerate(items, 1):
        file = folder / f"{number:03}.tar"
        if item.kind == "image":
            fetch(reference(item.source), item.name, file, deadline)
        else:
            _copy(item, file)
        kind = "archive" if item.kind == "image" else item.kind
        entries.append({"file": file.name, "kind": kind, "name": item.name})
    (folder / LIST).write_text(json.dumps(entries))


def _copy(item: Preload, file: Path) -> None:
    path = expand_user(item.source)
    try:
        if item.kind == "build":
            with file.open("wb") as handle:
                pack_tree(handle, path)
        else:
            shutil.copyfile(path, file)
        with file.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(
            "the content to preload cannot be read.", name=str(path), cause=str(error)
        ) from error
    if digest != item.digest:
        raise ImageError(
            "the content to preload was changed during the build.",
            name=str(path),
            remedy="run again when no program writes to it",
        )
