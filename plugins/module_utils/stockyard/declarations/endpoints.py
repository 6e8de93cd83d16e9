# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of endpoints, and their specifications."""

from __future__ import annotations

from typing import Any

from ..model.endpoint import EndpointSpec
from ..model.host import HostSpec
from .named import named
from .options import options, specification

Params = dict[str, Any]

# Options of hosts that the image host and the machines of containers do not have.
OTHER_HOSTS = (
    "fork_mode",
    "ports",
    "authorized_keys",
    "engine_identity",
    "bind",
    "volumes",
    "publish",
    "container_ports",
)

ENDPOINT: Params = {
    **options(EndpointSpec, "name", "host", socket={"type": "path"}),
    **options(HostSpec, *OTHER_HOSTS),
    "replace": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 600},
}


@named("endpoint")
def endpoint_spec(params: Params) -> EndpointSpec:
    """Return the endpoint that a task declares."""
    return specification(EndpointSpec, params, host=specification(HostSpec, params))
