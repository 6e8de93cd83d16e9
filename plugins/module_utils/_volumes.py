# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of volumes in modules and declarations, and their specifications."""

from __future__ import annotations

from typing import Any

from ._named import named
from .stockyard.model.volume import DOCKER_ROOT, VolumeSpec, VolumeUse
from .stockyard.storing import VOLUME_STATES

__all__ = ["USE", "VOLUME", "VOLUME_STATES", "volume_spec", "volume_uses"]

Params = dict[str, Any]

VOLUME: Params = {
    "tenant": {"type": "str", "default": "default"},
    "size_gib": {"type": "int"},
    "source": {"type": "str", "default": ""},
    "snapshot": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 120},
}

USE: Params = {
    "name": {"type": "str", "required": True},
    "path": {"type": "str", "default": DOCKER_ROOT},
    "size_gib": {"type": "int"},
    "source": {"type": "str", "default": ""},
}


@named("volume")
def volume_spec(params: Params) -> VolumeSpec:
    """Return the volume that a task declares."""
    return VolumeSpec(
        **{name: params[name] for name in ("name", "tenant", "size_gib", "source", "snapshot")}
    )


def volume_uses(params: Params) -> tuple[VolumeUse, ...]:
    """Return the volumes that a host declares."""
    return tuple(VolumeUse(**{name: use[name] for name in USE}) for use in params["volumes"])
