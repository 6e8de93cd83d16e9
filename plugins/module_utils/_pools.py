# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of pools and of preloads, and their specifications."""

from __future__ import annotations

from typing import Any

from ._named import named
from .stockyard.model.pool import PoolSpec
from .stockyard.model.preload import KINDS, Preload

Params = dict[str, Any]

POOL: Params = {
    "tenant": {"type": "str", "default": "default"},
    "parent": {"type": "str", "default": ""},
    "hosts": {"type": "int", "default": 0},
    "vcpus": {"type": "int", "default": 0},
    "memory_mib": {"type": "int", "default": 0},
    "memory_overcommit": {"type": "float", "default": 1.0},
    "disk_gib": {"type": "int", "default": 0},
    "cpu_shares": {"type": "int", "default": 0},
    "memory_shares": {"type": "int", "default": 0},
    "cpu_reservation_mhz": {"type": "int", "default": 0},
    "memory_reservation_mib": {"type": "int", "default": 0},
    "expandable": {"type": "bool", "default": True},
    "force": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 60},
}

PRELOAD: Params = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        **{kind: {"type": "str"} for kind in KINDS},
        "name": {"type": "str", "default": ""},
    },
    "mutually_exclusive": [KINDS],
    "required_one_of": [KINDS],
}


@named("pool")
def pool_spec(params: Params) -> PoolSpec:
    """Return the pool that a task declares."""
    return PoolSpec(
        name=params["name"],
        **{name: params[name] for name in POOL if name not in ("force", "timeout")},
    )


def preloads(items: list[Params]) -> tuple[Preload, ...]:
    """Return the images that a template's Docker contains."""
    pairs = [(next(kind for kind in KINDS if item[kind]), item) for item in items]
    return tuple(Preload(kind, item[kind], item["name"]) for kind, item in pairs)
