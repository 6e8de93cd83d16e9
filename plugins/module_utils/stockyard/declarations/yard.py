# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declaration of a whole yard from lists of objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from ..errors import InvalidInput
from ..planning.declaration import (
    Declaration,
    EndpointTerm,
    FleetTerm,
    PoolTerm,
    SuspendedFleetTerm,
    TemplateTerm,
    VolumeTerm,
)
from .endpoints import ENDPOINT, endpoint_spec
from .options import option
from .pools import POOL, pool_spec
from .specs import FLEET, FLEET_STATES, TEMPLATE, fleet_spec, template_spec
from .volumes import VOLUME, volume_spec

Params = dict[str, Any]
# Validates the options of one object, and returns them with their defaults. The arguments are the
# options, the values and the place of the object in its list.
Check: TypeAlias = Callable[[Params, Any, str], Params]

DECLARATION: Params = {name: option(Declaration, name) for name in ("prune", "evacuate")}

ITEM: Params = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
# The options of the objects of each kind.
KINDS = {
    "pools": POOL,
    "templates": TEMPLATE,
    "volumes": VOLUME,
    "fleets": FLEET,
    "endpoints": ENDPOINT,
}


def declaration(params: Params, check: Check) -> Declaration:
    """Return a declared yard.

    :param params: the values of ``declaration``, ``prune``, ``evacuate``, ``rebuild`` and
        ``local_hypervisor``.
    :param check: validates the options of each object.
    """
    local_name = params["local_hypervisor"] or ""
    pools, templates, volumes, fleets, endpoints = _lists(params["declaration"] or {}, check)
    terms = Declaration(
        tuple(
            TemplateTerm(template_spec(template), float(template["timeout"]))
            for template in _in_state(templates)
        ),
        tuple(
            FleetTerm(
                fleet_spec(_placed(fleet, local_name)), float(fleet["timeout"]), fleet["wait"]
            )
            for fleet in _in_state(fleets)
        ),
        _absent(templates),
        _absent(fleets),
        pools=tuple(
            PoolTerm(pool_spec(pool), pool["force"], float(pool["timeout"]))
            for pool in _in_state(pools)
        ),
        absent_pools=_absent(pools),
        prune=params["prune"],
        evacuate=params["evacuate"],
        volumes=tuple(
            VolumeTerm(volume_spec(volume), float(volume["timeout"]))
            for volume in _in_state(volumes)
        ),
        suspended_fleets=tuple(
            SuspendedFleetTerm(fleet["name"], fleet["tenant"], float(fleet["timeout"]))
            for fleet in _in_state(fleets, "suspended")
        ),
        endpoints=tuple(
            EndpointTerm(endpoint_spec(endpoint), endpoint["replace"], float(endpoint["timeout"]))
            for endpoint in _in_state(endpoints)
        ),
        absent_endpoints=_absent(endpoints),
        absent_volumes=_absent(volumes),
    )
    return terms.rebuilt() if params["rebuild"] else terms


def _lists(declared: Params, check: Check) -> list[list[Params]]:
    """Return the validated items of each kind, in the order of :data:`KINDS`."""
    unknown_keys = sorted(map(str, declared.keys() - KINDS.keys()))
    if unknown_keys:
        raise InvalidInput(
            f"declaration: {unknown_keys[0]} is not known.",
            remedy="declare pools, templates, volumes, fleets and endpoints",
        )
    return [_items(declared, kind, options, check) for kind, options in KINDS.items()]


def _in_state(items: list[Params], state: str = "present") -> list[Params]:
    return [item for item in items if item["state"] == state]


def _absent(items: list[Params]) -> tuple[tuple[str, str], ...]:
    """Return tenant and name of the objects that are declared absent."""
    return tuple((item["tenant"], item["name"]) for item in _in_state(items, "absent"))


def _placed(params: Params, local_name: str) -> Params:
    """Return a fleet's parameters with the name of this hypervisor, if the fleet has several
    hypervisors and does not name this one.
    """
    return (
        {**params, "local_hypervisor": local_name}
        if params["hypervisors"] and not params["local_hypervisor"]
        else params
    )


def _items(declared: Params, kind: str, options: Params, check: Check) -> list[Params]:
    """Return the items of one list of a declaration, each validated as its module would validate
    it.
    """
    items = [] if declared.get(kind) is None else declared[kind]
    if not isinstance(items, list):
        raise InvalidInput(f"declaration: {kind} is no list.", remedy=f"give {kind} as a list")
    item_options = {**options, **ITEM}
    if kind == "fleets":
        item_options["state"] = {**ITEM["state"], "choices": FLEET_STATES}
    return [
        check(item_options, item, _title(kind, number, item))
        for number, item in enumerate(items, 1)
    ]


def _title(kind: str, number: int, item: Any) -> str:
    """Return the name of an item for an error: its kind and name, or its place in the list."""
    name = item.get("name") if isinstance(item, dict) else None
    return f"{kind.removesuffix('s')} {name}" if isinstance(name, str) else f"{kind} {number}"
