# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules and their specifications."""

from __future__ import annotations

from typing import Any

from ._ansible import checked
from ._endpoints import ENDPOINT, endpoint_spec
from ._named import named
from ._options import option, options, specification
from ._pools import POOL, PRELOAD, pool_spec, preloads
from ._provision import PROVISION, provision_spec
from ._security import SECURITY, security_spec
from ._volumes import VOLUME, volume_spec
from .stockyard.errors import InvalidInput
from .stockyard.model.branch import BranchSpec
from .stockyard.model.fleet import HOST_STATES, FleetSpec, SingleSpec
from .stockyard.model.host import HostSpec
from .stockyard.model.image import BuildOptions, ImageSpec
from .stockyard.model.lease import seconds
from .stockyard.model.naming import duration
from .stockyard.model.template import Hardware, TemplateSpec
from .stockyard.planning.declaration import (
    Declaration,
    EndpointTerm,
    FleetTerm,
    PoolTerm,
    SuspendedFleetTerm,
    TemplateTerm,
    VolumeTerm,
)
from .stockyard.result import Result
from .stockyard.yard import Yard

__all__ = [
    "BRANCH",
    "DECLARATION",
    "ENDPOINT",
    "FLEET",
    "FLEET_STATES",
    "HOST",
    "HOST_STATES",
    "POOL",
    "TEMPLATE",
    "branch_spec",
    "declaration",
    "endpoint_spec",
    "fleet_spec",
    "pool_spec",
    "reap",
    "single_spec",
    "template_spec",
]

Params = dict[str, Any]

HOST: Params = {
    **options(
        SingleSpec, "name", "host", template={"default": None}, ttl={"type": "str", "default": ""}
    ),
    **options(HostSpec, authorized_keys={"no_log": False}),
    "wait": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 600},
}

BRANCH: Params = {
    **options(BranchSpec, ttl=HOST["ttl"]),
    "wait": HOST["wait"],
    "timeout": HOST["timeout"],
}

FLEET: Params = {
    **HOST,
    **options(
        FleetSpec,
        "name",
        "host",
        template={"required": None},
        ttl=HOST["ttl"],
        suspend_after=HOST["ttl"],
        count={"default": None},
        names={"default": None},
    ),
}

TEMPLATE: Params = {
    **options(ImageSpec, preload=PRELOAD),
    **options(BuildOptions, "preload", "cloud_image"),
    **options(Hardware),
    **options(
        TemplateSpec,
        "name",
        "image",
        "build",
        "hardware",
        "parent",
        max_age={"type": "str"},
        security={"options": SECURITY},
        provision=PROVISION,
    ),
    # The field has another name, because this one is a keyword of Python.
    "from": option(TemplateSpec, "parent"),
    "timeout": {"type": "int", "default": 1800},
}

DECLARATION: Params = {name: option(Declaration, name) for name in ("prune", "evacuate")}

# The states of a declared fleet.
FLEET_STATES = ["present", "suspended", "absent"]
ITEM: Params = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


@named("template")
def template_spec(params: Params) -> TemplateSpec:
    """Return the template that a task declares."""
    age = params["max_age"]
    return specification(
        TemplateSpec,
        params,
        image=specification(ImageSpec, params, preload=preloads(params["preload"])),
        build=specification(BuildOptions, params, preload=(), cloud_image=None),
        hardware=specification(Hardware, params),
        parent=params["from"],
        max_age=None if age is None else duration("max_age", age),
        security=security_spec(params["security"]),
        provision=provision_spec(params["provision"]),
    )


@named("fleet")
def fleet_spec(params: Params) -> FleetSpec:
    """Return the fleet that a task declares."""
    names, count = params["names"], params["count"]
    return specification(
        FleetSpec,
        params,
        # An empty list of names declares a fleet without hosts.
        count=count if count is not None else 1 if names is None else len(names),
        host=specification(HostSpec, params),
        ttl=_ttl(params),
        suspend_after=_ttl(params, "suspend_after"),
    )


def declaration(params: Params) -> Declaration:
    """Return the yard that a task declares."""
    declared = params["declaration"] or {}
    local_name = params["local_hypervisor"] or ""
    kinds = {
        "pools": POOL,
        "templates": TEMPLATE,
        "volumes": VOLUME,
        "fleets": FLEET,
        "endpoints": ENDPOINT,
    }
    unknown_keys = sorted(map(str, declared.keys() - kinds.keys()))
    if unknown_keys:
        raise InvalidInput(
            f"declaration: {unknown_keys[0]} is not known.",
            remedy="declare pools, templates, volumes, fleets and endpoints",
        )
    pools, templates, volumes, fleets, endpoints = (
        _items(declared, kind, options) for kind, options in kinds.items()
    )
    terms = Declaration(
        tuple(
            TemplateTerm(template_spec(template), float(template["timeout"]))
            for template in templates
            if template["state"] == "present"
        ),
        tuple(
            FleetTerm(
                fleet_spec(_placed(fleet, local_name)), float(fleet["timeout"]), fleet["wait"]
            )
            for fleet in fleets
            if fleet["state"] == "present"
        ),
        *(
            tuple((item["tenant"], item["name"]) for item in kind if item["state"] == "absent")
            for kind in (templates, fleets)
        ),
        pools=tuple(
            PoolTerm(pool_spec(pool), pool["force"], float(pool["timeout"]))
            for pool in pools
            if pool["state"] == "present"
        ),
        absent_pools=tuple(
            (pool["tenant"], pool["name"]) for pool in pools if pool["state"] == "absent"
        ),
        prune=params["prune"],
        evacuate=params["evacuate"],
        volumes=tuple(
            VolumeTerm(volume_spec(volume), float(volume["timeout"]))
            for volume in volumes
            if volume["state"] == "present"
        ),
        suspended_fleets=tuple(
            SuspendedFleetTerm(fleet["name"], fleet["tenant"], float(fleet["timeout"]))
            for fleet in fleets
            if fleet["state"] == "suspended"
        ),
        endpoints=tuple(
            EndpointTerm(endpoint_spec(endpoint), endpoint["replace"], float(endpoint["timeout"]))
            for endpoint in endpoints
            if endpoint["state"] == "present"
        ),
        absent_endpoints=tuple(
            (endpoint["tenant"], endpoint["name"])
            for endpoint in endpoints
            if endpoint["state"] == "absent"
        ),
        absent_volumes=tuple(
            (volume["tenant"], volume["name"]) for volume in volumes if volume["state"] == "absent"
        ),
    )
    return terms.rebuilt() if params["rebuild"] else terms


def _placed(params: Params, local_name: str) -> Params:
    """Return a fleet's parameters with the name of this hypervisor, if the fleet has several
    hypervisors and does not name this one.
    """
    return (
        {**params, "local_hypervisor": local_name}
        if params["hypervisors"] and not params["local_hypervisor"]
        else params
    )


def _items(declared: Params, kind: str, options: Params) -> list[Params]:
    """Return the items of one list of a declaration, each validated as its module would validate
    it.
    """
    items = declared.get(kind) or []
    if not isinstance(items, list):
        raise InvalidInput(f"declaration: {kind} is no list.", remedy=f"give {kind} as a list")
    item_options = {**options, **ITEM}
    if kind == "fleets":
        item_options["state"] = {**ITEM["state"], "choices": FLEET_STATES}
    return [
        checked(item_options, item, _title(kind, number, item))
        for number, item in enumerate(items, 1)
    ]


def _title(kind: str, number: int, item: Any) -> str:
    """Return the name of an item for an error: its kind and name, or its place in the list."""
    name = item.get("name") if isinstance(item, dict) else None
    return f"{kind.removesuffix('s')} {name}" if isinstance(name, str) else f"{kind} {number}"


@named("host")
def single_spec(params: Params) -> SingleSpec:
    """Return the single host that a task declares by its name."""
    return specification(SingleSpec, params, host=specification(HostSpec, params), ttl=_ttl(params))


def branch_spec(params: Params) -> BranchSpec:
    """Return the children of a host that a task declares."""
    return specification(BranchSpec, params, ttl=_ttl(params))


def reap(yard: Yard, params: Params, mode: Params) -> Result[Any]:
    """Reap a yard as a task declares."""
    return yard.reap(
        dry_run=mode["check"], grace=seconds("grace", params["grace"]), timeout=mode["timeout"]
    )


def _ttl(params: Params, name: str = "ttl") -> float:
    return seconds(name, params[name]) if params[name] else 0.0
