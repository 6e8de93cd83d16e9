# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The yards that an inventory is of: their options, checked, and what is in them."""

from __future__ import annotations

from typing import Any

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import COMMON, checked, open_yard
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.errors import (
    InvalidInput,
    StockyardError,
)

Params = dict[str, Any]

# Those of the common options that an inventory has: it admits nobody and opens no volume, so it needs neither key.
OWN = tuple(name for name in COMMON if name == "ca_path" or not name.startswith(("ca_", "volume_key")))


def yards(own: Params, given: list[Params]) -> list[Params]:
    """The options of each yard, with those of the file as defaults.

    :raises InvalidInput: when one is wrong, or two have one name.
    """
    known = {**COMMON, "name": {"type": "str"}}
    found = [
        checked(known, {k: v for k, v in {**own, **_mapping(item, n)}.items() if v is not None}, f"hypervisors {n}")
        for n, item in enumerate(given, 1)
    ]
    named = [{**item, "name": item["name"] or item["hypervisor"]} for item in found]
    names = [item["name"] for item in named]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInput(f"hypervisors: {twice[0]} is there twice.", remedy="give each a name of its own")
    return named


def listing(options: Params) -> Any:
    """All hosts of one yard; where it cannot be read, the error, as an answer: others may be read at the same time."""
    try:
        with open_yard(options) as yard:
            return yard.listing()
    except StockyardError as error:
        return error


def _mapping(item: Any, number: int) -> Params:
    if not isinstance(item, dict):
        raise InvalidInput(f"hypervisors {number}: {item!a} is no mapping.", remedy="give options and their values")
    return item
