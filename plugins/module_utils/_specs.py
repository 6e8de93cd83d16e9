# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules and their specifications."""

from __future__ import annotations

from typing import Any

from ._ansible import checked
from ._named import named
from ._pools import POOL, PRELOAD, pool_spec, preloads
from ._provision import CLOUD_IMAGE, PROVISION, cloud_image_spec, provision_spec
from ._security import SECURITY, security_spec
from ._volumes import USE, VOLUME, volume_spec, volume_uses
from .stockyard.errors import InvalidInput
from .stockyard.model.fleet import HOST_STATES, FleetSpec, SingleSpec
from .stockyard.model.host import ENGINE_IDENTITIES, MODES, HostSpec
from .stockyard.model.image import DEFAULT_SUITE, SUITES, BuildOptions, ImageSpec
from .stockyard.model.lease import seconds
from .stockyard.model.naming import duration
from .stockyard.model.network import EGRESSES
from .stockyard.model.placements import HYPERVISOR_STATES, PLACEMENTS, Hypervisor
from .stockyard.model.pool import ON_FULL
from .stockyard.model.repository import Repository
from .stockyard.model.template import ACCELERATORS, DOCKER_KINDS, KEEP, Hardware, TemplateSpec
from .stockyard.model.update import RECREATE, STRATEGIES, UpdateSpec
from .stockyard.planning.declaration import (
    PRUNE,
    Declaration,
    FleetTerm,
    PoolTerm,
    TemplateTerm,
    VolumeTerm,
)
from .stockyard.resources.certificates.clients import Client
from .stockyard.result import Result
from .stockyard.yard import Yard

__all__ = [
    "FLEET",
    "HOST",
    "HOST_STATES",
    "POOL",
    "PRUNE",
    "TEMPLATE",
    "TENANT",
    "client",
    "declaration",
    "fleet_spec",
    "pool_spec",
    "reaping",
    "single_spec",
    "template_spec",
]

Params = dict[str, Any]

TENANT: Params = {"tenant": {"type": "str", "default": "default"}}

HOST: Params = {
    **TENANT,
    "template": {"type": "str"},
    "ports": {"type": "list", "elements": "int", "default": []},
    "bind": {"type": "str", "default": ""},
    "egress": {"type": "str", "choices": list(EGRESSES), "default": "none"},
    "egress_proxy": {"type": "str", "default": ""},
    "network": {"type": "str", "default": ""},
    "pool": {"type": "str", "default": ""},
    "vcpus": {"type": "int", "default": 0},
    "memory_mib": {"type": "int", "default": 0},
    "labels": {"type": "dict", "default": {}},
    "authorized_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "fork_mode": {"type": "str", "choices": list(MODES), "default": "instant"},
    "engine_identity": {"type": "str", "choices": list(ENGINE_IDENTITIES), "default": "shared"},
    "ttl": {"type": "str", "default": ""},
    "volumes": {"type": "list", "elements": "dict", "default": [], "options": USE},
    "wait": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 600},
}

UPDATE: Params = {
    "strategy": {"type": "str", "choices": list(STRATEGIES), "default": "rolling"},
    "max_surge": {"type": "int"},
    "max_unavailable": {"type": "int"},
    "grace": {"type": "float", "default": 30.0},
    "hook": {"type": "list", "elements": "str", "default": []},
}

HYPERVISOR: Params = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": list(HYPERVISOR_STATES), "default": "active"},
    "max": {"type": "int"},
}

FLEET: Params = {
    **HOST,
    "count": {"type": "int"},
    "names": {"type": "list", "elements": "str"},
    "min_ready": {"type": "int", "default": 0},
    "max": {"type": "int", "default": 0},
    "update": {"type": "dict", "options": UPDATE, "apply_defaults": True},
    "recreate": {"type": "str", "choices": list(RECREATE), "default": "auto"},
    "replace_on_labels": {"type": "list", "elements": "str", "default": []},
    "hypervisors": {"type": "list", "elements": "dict", "default": [], "options": HYPERVISOR},
    "placement": {"type": "str", "choices": list(PLACEMENTS), "default": "spread"},
    "local_hypervisor": {"type": "str", "default": ""},
    "on_full": {"type": "str", "choices": list(ON_FULL), "default": "refuse"},
}

REPOSITORY: Params = {
    "url": {"type": "str", "required": True},
    "signed_by": {"type": "str", "required": True},
    "suite": {"type": "str", "default": ""},
    "components": {"type": "list", "elements": "str", "default": ["main"]},
}

TEMPLATE: Params = {
    **TENANT,
    "suite": {"type": "str", "choices": list(SUITES), "default": DEFAULT_SUITE},
    "cloud_image": CLOUD_IMAGE,
    "packages": {"type": "list", "elements": "str", "default": []},
    "files": {"type": "dict", "default": {}},
    "preload": PRELOAD,
    "commands": {"type": "list", "elements": "str", "default": []},
    "provision": PROVISION,
    "disk_gib": {"type": "int", "default": 8},
    "source": {"type": "str", "default": ""},
    "ssh_user": {"type": "str", "default": "stockyard"},
    "mirror": {"type": "str", "default": ""},
    "security_mirror": {"type": "str", "default": ""},
    "proxy": {"type": "str", "default": ""},
    "repositories": {"type": "list", "elements": "dict", "default": [], "options": REPOSITORY},
    "vcpus": {"type": "int", "default": 1},
    "max_vcpus": {"type": "int", "default": 4},
    "memory_mib": {"type": "int", "default": 1024},
    "max_memory_mib": {"type": "int", "default": 0},
    "spare_ports": {"type": "int", "default": 4},
    "accelerator": {"type": "str", "choices": list(ACCELERATORS), "default": "auto"},
    "docker": {"type": "str", "choices": list(DOCKER_KINDS), "default": "running"},
    "secure_boot": {"type": "bool", "default": False},
    "vtpm": {"type": "bool", "default": False},
    "upgrade": {"type": "bool", "default": False},
    "max_age": {"type": "str"},
    "keep_generations": {"type": "int", "default": KEEP},
    "security": {"type": "dict", "options": SECURITY, "apply_defaults": True},
    "timeout": {"type": "int", "default": 1800},
}

ITEM: Params = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

# Options with the same name and type in a host's specification.
PLAIN = (
    "fork_mode",
    "engine_identity",
    "bind",
    "egress",
    "egress_proxy",
    "network",
    "pool",
    "vcpus",
    "memory_mib",
)


@named("template")
def template_spec(params: Params) -> TemplateSpec:
    """Return the template that a task declares."""
    image = _of(params, "suite", "ssh_user", "disk_gib", "source")
    hardware = _of(params, "vcpus", "max_vcpus", "memory_mib", "spare_ports", "accelerator")
    age = params["max_age"]
    return TemplateSpec(
        **_of(
            params,
            "name",
            "tenant",
            "docker",
            "upgrade",
            "keep_generations",
            "max_memory_mib",
            "secure_boot",
            "vtpm",
        ),
        max_age=None if age is None else duration("max_age", age),
        image=ImageSpec(
            packages=tuple(params["packages"]),
            files=params["files"] or None,
            preload=preloads(params["preload"]),
            commands=tuple(params["commands"]),
            cloud_image=cloud_image_spec(params["cloud_image"]),
            **image,
        ),
        build=BuildOptions(
            **_of(params, "mirror", "security_mirror", "proxy"),
            repositories=tuple(
                Repository(**{**repository, "components": tuple(repository["components"])})
                for repository in params["repositories"]
            ),
        ),
        hardware=Hardware(**hardware),
        security=security_spec(params["security"]),
        provision=provision_spec(params["provision"]),
    )


@named("fleet")
def fleet_spec(params: Params) -> FleetSpec:
    """Return the fleet that a task declares."""
    names, count, update = params["names"], params["count"], params["update"]
    return FleetSpec(
        **_of(
            params,
            "name",
            "template",
            "tenant",
            "labels",
            "recreate",
            "placement",
            "local_hypervisor",
            "on_full",
        ),
        # An empty list of names declares a fleet without hosts.
        count=count if count is not None else 1 if names is None else len(names),
        names=tuple(names or ()),
        hypervisors=tuple(
            Hypervisor(hypervisor["name"], hypervisor["state"], hypervisor["max"])
            for hypervisor in params["hypervisors"]
        ),
        replace_on_labels=tuple(params["replace_on_labels"]),
        update=UpdateSpec(**{**update, "hook": tuple(update["hook"])}),
        min_ready=params["min_ready"],
        max=params["max"],
        host=_host_spec(params),
        ttl=_ttl(params),
    )


def declaration(params: Params) -> Declaration:
    """Return the yard that a task declares."""
    declared = params["declaration"] or {}
    local_name = params["local_hypervisor"] or ""
    unknown_keys = sorted(map(str, declared.keys() - {"pools", "templates", "volumes", "fleets"}))
    if unknown_keys:
        raise InvalidInput(
            f"declaration: {unknown_keys[0]} is not known.",
            remedy="declare pools, templates, volumes and fleets",
        )
    pools, templates, volumes, fleets = (
        _items(declared, kind, options)
        for kind, options in (
            ("pools", POOL),
            ("templates", TEMPLATE),
            ("volumes", VOLUME),
            ("fleets", FLEET),
        )
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
    return [
        checked({**options, **ITEM}, item, f"{kind} {number}")
        for number, item in enumerate(items, 1)
    ]


@named("host")
def single_spec(params: Params) -> SingleSpec:
    """Return the single host that a task declares by its name."""
    declared = _of(params, "name", "tenant", "labels")
    return SingleSpec(
        **declared, template=params["template"] or "", host=_host_spec(params), ttl=_ttl(params)
    )


def client(params: Params) -> Client:
    """Return the client certificate that a task declares."""
    return Client(**_of(params, "name", "tenant", "days"), directory=params["directory"] or "")


def reaping(yard: Yard, params: Params, mode: Params) -> Result[Params]:
    """Reap as a task declares."""
    return yard.reap(
        dry_run=mode["check"], grace=seconds("grace", params["grace"]), timeout=mode["timeout"]
    )


def _ttl(params: Params) -> float:
    return seconds("ttl", params["ttl"]) if params["ttl"] else 0.0


def _host_spec(params: Params) -> HostSpec:
    ports, keys = tuple(params["ports"]), tuple(params["authorized_keys"])
    return HostSpec(
        ports=ports, authorized_keys=keys, volumes=volume_uses(params), **_of(params, *PLAIN)
    )


def _of(params: Params, *names: str) -> Params:
    return {name: params[name] for name in names}
