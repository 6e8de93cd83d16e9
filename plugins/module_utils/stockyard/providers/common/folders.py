# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listings of directories in the storage."""

from __future__ import annotations

import os
from pathlib import Path

from .os_errors import translate_os_error


def names(folder: Path, contents: str) -> list[str]:
    """Return the names in a directory; an empty list if the directory does not exist.

    A directory that cannot be read never counts as empty.

    :param contents: the kind of its contents, for the error.
    :raises HypervisorError: if the directory cannot be read.
    """
    with translate_os_error(
        f"{contents} cannot be read.",
        str(folder),
        "allow this user to read the directory, or set another storage",
    ):
        try:
            return sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
