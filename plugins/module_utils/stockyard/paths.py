# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths on this machine, as users declare them."""

from __future__ import annotations

from pathlib import Path

from .errors import InvalidInput


def expand_user(text: str | Path) -> Path:
    """Return a path whose first part ``~`` or ``~USER`` is replaced by the home directory.

    :raises InvalidInput: if the user, or the home directory of the user, is unknown.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InvalidInput(
            "the home directory of the user is unknown.",
            name=str(text),
            remedy="write the path without ~, or correct the name of the user",
        ) from error
