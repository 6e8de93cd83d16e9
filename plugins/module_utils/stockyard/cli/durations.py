# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations on the command line, and the mode of a change, which contains one."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidInput
from ..model.lease import seconds
from .command import Options


def length(option: str, text: str) -> float:
    """Return a duration in seconds. It needs a unit: users read a bare ``5`` as minutes.

    :param option: the name of the option without its dashes.
    :raises InvalidInput: if the text has no unit, or is no duration.
    """
    if text.isdecimal():
        raise InvalidInput(
            f"--{option}: {text} has no unit.", remedy=f"write {text}s, {text}m, {text}h or {text}d"
        )
    return seconds(option, text)


def change_mode(options: Options) -> dict[str, Any]:
    """Return whether a change is only planned, and its maximum time, as arguments of the SDK."""
    return {"check": options.dry_run, "timeout": length("timeout", options.timeout)}
