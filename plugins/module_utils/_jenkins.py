# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules for Jenkins, and their conversion."""

from __future__ import annotations

import platform
from typing import Any

from ansible.module_utils.basic import env_fallback

from .stockyard.declarations.options import options, specification
from .stockyard.errors import InvalidInput
from .stockyard.integrations.jenkins.agents import Agents
from .stockyard.integrations.jenkins.client import Controller
from .stockyard.integrations.jenkins.plan import Scope
from .stockyard.integrations.jenkins.spec import AgentSpec
from .stockyard.model.lease import seconds
from .stockyard.result import Result
from .stockyard.yard import Yard

Params = dict[str, Any]

AGENT: Params = options(AgentSpec, place={"default": None})

CONTROLLER: Params = {
    "controller_url": {
        "type": "str",
        "required": True,
        "fallback": (env_fallback, ["JENKINS_URL"]),
    },
    "controller_user": {
        "type": "str",
        "default": "",
        "fallback": (env_fallback, ["JENKINS_USER_ID"]),
    },
    "controller_token": {
        "type": "str",
        "no_log": True,
        "fallback": (env_fallback, ["JENKINS_API_TOKEN"]),
    },
    "controller_ca_path": {"type": "path"},
    **{name: AGENT[name] for name in ("fleet", "tenant")},
}

NODES: Params = {
    **CONTROLLER,
    **AGENT,
    "state": {"type": "str", "choices": ["present", "drained", "absent"], "default": "present"},
    "hosts": {"type": "list", "elements": "str"},
    "watch": {"type": "str", "default": "0"},
    "grace": {"type": "str", "default": "10m"},
    "register": {"type": "bool", "default": True},
    "collect": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 1200},
}


def change_nodes(yard: Yard, params: Params, mode: Params) -> Result[Any]:
    """Apply a task's declaration of a fleet's nodes."""
    present = params["state"] == "present"
    if present and params["hosts"] is not None:
        raise InvalidInput(
            "hosts: all of a fleet have nodes, or none.", remedy="give hosts with drained or absent"
        )
    # A task that only drains or deletes need not declare how agents are started.
    launcher = {} if present or params["credentials_id"] else {"launcher": "inbound"}
    spec = specification(AgentSpec, params, **launcher, place=_place(params))
    agents = Agents(yard.context, _controller(params), spec)
    if present:
        scope = Scope(params["register"], params["collect"])
        return agents.converge(**mode, scope=scope, watch=seconds("watch", params["watch"]))
    act = agents.drain if params["state"] == "drained" else agents.remove
    return act(**mode, grace=seconds("grace", params["grace"]), only=params["hosts"])


def list_nodes(yard: Yard, params: Params) -> Params:
    """Return a fleet's nodes, and the nodes with a damaged mark."""
    # Only fleet and tenant of the specification are used.
    spec = AgentSpec(params["fleet"], params["tenant"], launcher="inbound")
    agents = Agents(yard.context, _controller(params), spec)
    return {"nodes": agents.nodes(secrets=params["secrets"]), "skipped_objects": agents.skipped()}


def _controller(params: Params) -> Controller:
    return Controller(
        params["controller_url"],
        params["controller_user"],
        params["controller_token"] or "",
        params["controller_ca_path"] or "",
    )


def _place(params: Params) -> str:
    """Return the name of this hypervisor. The URI of a local hypervisor is the same on every
    machine, so that the machine's name is added.
    """
    uri = str(params["hypervisor"]).partition("?")[0]
    return str(
        params["place"]
        or (uri if "://" in uri and not uri.startswith("qemu:///") else f"{uri}@{platform.node()}")
    )
