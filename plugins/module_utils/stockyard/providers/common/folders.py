# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a directory of the storage."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import HypervisorError


def names(folder: Path, what: str) -> list[str]:
    """The names in a directory; none where there is no such directory. One that cannot be read is
    not taken for empty.

    :param what: what is kept there, for the error.
    :raises HypervisorError: when it cannot be read.
    """
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise HypervisorError(
            f"{what} cannot be read.",
            name=str(folder),
            cause=str(error),
            remedy="let this user read the directory, or name another storage",
        ) from error
