# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of pools and of preloads, and their specifications."""

from __future__ import annotations

from typing import Any

from ..model.pool import PoolSpec
from ..model.preload import KINDS, Preload
from .named import named
from .options import options, specification

Params = dict[str, Any]

POOL: Params = {
    **options(PoolSpec, "name"),
    "force": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 60},
}

PRELOAD: Params = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        **{kind: {"type": "str"} for kind in KINDS},
        **options(Preload, "kind", "source", "digest"),
    },
    "mutually_exclusive": [KINDS],
    "required_one_of": [KINDS],
}


@named("pool")
def pool_spec(params: Params) -> PoolSpec:
    """Return the pool that a task declares."""
    return specification(PoolSpec, params)


def preloads(items: list[Params]) -> tuple[Preload, ...]:
    """Return the images that a template's Docker contains."""
    pairs = [(next(kind for kind in KINDS if item[kind]), item) for item in items]
    return tuple(Preload(kind, item[kind], item["name"]) for kind, item in pairs)
