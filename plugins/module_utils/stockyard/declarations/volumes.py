# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of volumes in modules and declarations, and their specifications."""

from __future__ import annotations

from typing import Any

from ..model.volume import VolumeSpec
from .named import named
from .options import options, specification

Params = dict[str, Any]

VOLUME_STATES = ("present", "absent", "attached", "detached")

VOLUME: Params = {**options(VolumeSpec, "name"), "timeout": {"type": "int", "default": 120}}


@named("volume")
def volume_spec(params: Params) -> VolumeSpec:
    """Return the volume that a task declares."""
    return specification(VolumeSpec, params)
