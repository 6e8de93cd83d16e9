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


def yards(own: Params, given: list[Params]) -> list[Params]:
    """Validate the options of each yard, with the options of the file as defaults.

    :raises InvalidInput: if an option is invalid, or if two yards have the same name.
    """
    known = {**COMMON, "name": {"type": "str"}}
    found = [
        checked(
            known,
            {k: v for k, v in {**own, **_mapping(item, n)}.items() if v is not None},
            f"hypervisors {n}",
        )
        for n, item in enumerate(given, 1)
    ]
    named = [{**item, "name": item["name"] or item["hypervisor"]} for item in found]
    names = [item["name"] for item in named]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInput(
            f"hypervisors: {twice[0]} is declared twice.",
            remedy="give each hypervisor a unique name",
        )
    return named


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
