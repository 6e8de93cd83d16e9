# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reaping of a yard as a task declares it."""

from __future__ import annotations

from typing import Any

from .stockyard.model.lease import seconds
from .stockyard.result import Result
from .stockyard.yard import Yard

Params = dict[str, Any]


def reap(yard: Yard, params: Params, mode: Params) -> Result[Any]:
    """Reap a yard as a task declares."""
    return yard.reap(
        dry_run=mode["check"], grace=seconds("grace", params["grace"]), timeout=mode["timeout"]
    )
