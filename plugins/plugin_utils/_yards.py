# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options and contents of the yards of an inventory."""

from __future__ import annotations

from typing import Any

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import (
    COMMON,
    checked,
    open_yard,
)
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.errors import (
    InvalidInput,
    StockyardError,
)

Params = dict[str, Any]

# The common options without the keys of authorities and volumes, which an inventory does not use.
OWN = tuple(
    name for name in COMMON if name == "ca_path" or not name.startswith(("ca_", "volume_key"))
)


def yards(defaults: Params, items: list[Params]) -> list[Params]:
    """Validate the options of each yard, with the options of the file as defaults.

    :raises InvalidInput: if an option is invalid, or if two yards have the same name.
    """
    options = {**COMMON, "name": {"type": "str"}}
    validated = [
        checked(
            options,
            {
                key: value
                for key, value in {**defaults, **_mapping(item, number)}.items()
                if value is not None
            },
            f"hypervisors {number}",
        )
        for number, item in enumerate(items, 1)
    ]
    named_items = [{**item, "name": item["name"] or item["hypervisor"]} for item in validated]
    names = [item["name"] for item in named_items]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInput(
            f"hypervisors: {duplicates[0]} is declared twice.",
            remedy="give each hypervisor a unique name",
        )
    return named_items


def listing(options: Params) -> Any:
    """Return all hosts of one yard, or the error if the yard cannot be read.

    Other yards are read at the same time, so that the error is no exception.
    """
    try:
        with open_yard(options) as yard:
            return yard.listing()
    except StockyardError as error:
        return error


def _mapping(item: Any, number: int) -> Params:
    if not isinstance(item, dict):
        raise InvalidInput(
            f"hypervisors {number}: {item!a} is not a mapping.",
            remedy="give options and their values",
        )
    return item
