# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules and their specifications."""

from __future__ import annotations

from typing import Any

from ..model.branch import BranchSpec
from ..model.fleet import HOST_STATES, FleetSpec, SingleSpec
from ..model.host import HostSpec
from ..model.image import BuildOptions, ImageSpec
from ..model.lease import seconds
from ..model.naming import duration
from ..model.template import Hardware, TemplateSpec
from .endpoints import ENDPOINT, endpoint_spec
from .named import named
from .options import option, options, specification
from .pools import POOL, PRELOAD, pool_spec, preloads
from .provision import PROVISION, provision_spec
from .security import SECURITY, security_spec

__all__ = [
    "BRANCH",
    "ENDPOINT",
    "FLEET",
    "FLEET_STATES",
    "HOST",
    "HOST_STATES",
    "POOL",
    "TEMPLATE",
    "branch_spec",
    "endpoint_spec",
    "fleet_spec",
    "pool_spec",
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
        share_dir={"type": "path"},
        # Public keys.
        trusted_keys={"no_log": False},
    ),
    # The field has another name, because this one is a keyword of Python.
    "from": option(TemplateSpec, "parent"),
    "timeout": {"type": "int", "default": 1800},
}


# The states of a declared fleet.
FLEET_STATES = ["present", "suspended", "absent"]


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


@named("host")
def single_spec(params: Params) -> SingleSpec:
    """Return the single host that a task declares by its name."""
    return specification(SingleSpec, params, host=specification(HostSpec, params), ttl=_ttl(params))


def branch_spec(params: Params) -> BranchSpec:
    """Return the children of a host that a task declares."""
    return specification(BranchSpec, params, ttl=_ttl(params))


def _ttl(params: Params, name: str = "ttl") -> float:
    return seconds(name, params[name]) if params[name] else 0.0
