# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of calls: which part of the endpoint answers each one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

from ..guest.security.reader.grammar import Refusal

# Passed through to the image host, to the machine of a container, or to that of an exec instance.
IMAGE_HOST, CONTAINER, EXEC = "image host", "container", "exec"
# Answered by a function of the endpoint, or refused with 501.
HANDLED, REFUSED = "handled", "refused"


@dataclass(frozen=True)
class Route:
    """The answer to one kind of call.

    :param handler: for a handled call the name of the function; for a refused one the subject.
    :param changes_host: whether the call can change the images or networks of the image host.
    :param builds: whether containers can run on the image host during the call.
    :param builds_in_streams: whether the call is a connection with several builds.
    :param registry: whether the call can have the password of a registry, and needs it.
    :param is_quick: whether Docker answers at once.
    :param uses_volumes: whether the call needs the named volumes of the container.
    """

    methods: str
    pattern: str
    kind: str
    handler: str = ""
    changes_host: bool = False
    builds: bool = False
    builds_in_streams: bool = False
    registry: bool = False
    is_quick: bool = False
    uses_volumes: bool = False


@dataclass(frozen=True)
class Match:
    """A route, with the reference in the path of the call."""

    route: Route
    reference: str = ""


ROUTES = (
    Route("GET HEAD", "/_ping", HANDLED, "ping"),
    Route("GET", "/version", IMAGE_HOST, is_quick=True),
    Route("GET", "/info", HANDLED, "info"),
    Route("GET", "/events", HANDLED, "events"),
    Route("GET", "/system/df", HANDLED, "disk_usage"),
    Route("POST", "/auth", IMAGE_HOST, registry=True),
    # containers
    Route("GET", "/containers/json", HANDLED, "list_containers"),
    Route("POST", "/containers/create", HANDLED, "create"),
    Route("POST", "/containers/prune", HANDLED, "prune_containers"),
    Route("POST", "/containers/{}/rename", HANDLED, "rename"),
    Route("POST", "/containers/{}/exec", HANDLED, "create_exec"),
    Route("POST", "/commit", HANDLED, "commit", changes_host=True),
    Route("GET", "/containers/{}/json", CONTAINER, is_quick=True),
    Route("GET", "/containers/{}/top", CONTAINER, is_quick=True),
    Route("GET", "/containers/{}/logs", CONTAINER),
    Route("GET", "/containers/{}/changes", CONTAINER),
    Route("GET", "/containers/{}/export", CONTAINER),
    Route("GET", "/containers/{}/stats", CONTAINER),
    Route("GET HEAD PUT", "/containers/{}/archive", CONTAINER, uses_volumes=True),
    Route("GET", "/containers/{}/attach/ws", CONTAINER),
    Route("POST", "/containers/{}/attach", CONTAINER),
    Route("POST", "/containers/{}/resize", CONTAINER, is_quick=True),
    Route("POST", "/containers/{}/start", CONTAINER, is_quick=True, uses_volumes=True),
    Route("POST", "/containers/{}/stop", CONTAINER),
    Route("POST", "/containers/{}/restart", CONTAINER, uses_volumes=True),
    Route("POST", "/containers/{}/kill", CONTAINER, is_quick=True),
    Route("POST", "/containers/{}/update", HANDLED, "update"),
    Route("POST", "/containers/{}/pause", CONTAINER, is_quick=True),
    Route("POST", "/containers/{}/unpause", CONTAINER, is_quick=True),
    Route("POST", "/containers/{}/wait", HANDLED, "wait"),
    Route("POST", "/containers/{}/copy", CONTAINER),
    Route("DELETE", "/containers/{}", HANDLED, "remove"),
    Route("POST", "/exec/{}/start", EXEC),
    Route("POST", "/exec/{}/resize", EXEC, is_quick=True),
    Route("GET", "/exec/{}/json", EXEC, is_quick=True),
    # images
    Route("GET", "/images/json", IMAGE_HOST, is_quick=True),
    Route("GET", "/images/search", IMAGE_HOST),
    Route("GET", "/images/get", IMAGE_HOST),
    Route("POST", "/images/create", IMAGE_HOST, changes_host=True, registry=True),
    Route("POST", "/images/load", IMAGE_HOST, changes_host=True),
    Route("POST", "/images/prune", HANDLED, "prune_images", changes_host=True, builds=True),
    Route("GET", "/images/{}/json", IMAGE_HOST, is_quick=True),
    Route("GET", "/images/{}/history", IMAGE_HOST, is_quick=True),
    Route("GET", "/images/{}/get", IMAGE_HOST),
    Route("POST", "/images/{}/push", IMAGE_HOST, registry=True),
    Route("POST", "/images/{}/tag", IMAGE_HOST, changes_host=True, is_quick=True),
    Route("DELETE", "/images/{}", HANDLED, "remove_image", changes_host=True),
    Route("GET", "/distribution/{}/json", IMAGE_HOST, registry=True),
    Route("POST", "/build", IMAGE_HOST, changes_host=True, builds=True),
    Route("POST", "/build/cancel", IMAGE_HOST, is_quick=True),
    Route("POST", "/build/prune", IMAGE_HOST),
    Route("POST", "/session", IMAGE_HOST),
    Route("POST", "/grpc", IMAGE_HOST, builds_in_streams=True),
    # networks: a new one must be part of the next generation
    Route("GET", "/networks", IMAGE_HOST, is_quick=True),
    Route("GET", "/networks/{}", HANDLED, "inspect_network"),
    Route("POST", "/networks/create", HANDLED, "create_network", changes_host=True),
    Route("POST", "/networks/prune", HANDLED, "prune_networks"),
    Route("POST", "/networks/{}/connect", HANDLED, "connect_network"),
    Route("POST", "/networks/{}/disconnect", HANDLED, "disconnect_network"),
    Route("DELETE", "/networks/{}", HANDLED, "remove_network"),
    # volumes
    Route("GET", "/volumes", HANDLED, "list_volumes"),
    Route("POST", "/volumes/prune", HANDLED, "prune_volumes"),
    Route("POST", "/volumes/create", HANDLED, "create_volume"),
    Route("GET", "/volumes/{}", HANDLED, "inspect_volume"),
    Route("DELETE", "/volumes/{}", HANDLED, "remove_volume"),
    Route("PUT", "/volumes/{}", REFUSED, "cluster volumes"),
    # what a pool of machines does not have
    Route("POST", "/swarm/leave", HANDLED, "leave_swarm"),
    Route("GET POST DELETE", "/swarm{}", REFUSED, "swarm"),
    Route("GET POST DELETE", "/nodes{}", REFUSED, "swarm"),
    Route("GET POST DELETE", "/services{}", REFUSED, "swarm"),
    Route("GET POST DELETE", "/tasks{}", REFUSED, "swarm"),
    Route("GET POST DELETE", "/secrets{}", REFUSED, "secrets"),
    Route("GET POST DELETE", "/configs{}", REFUSED, "configs"),
    Route("GET POST DELETE", "/plugins{}", REFUSED, "plugins"),
)


def _regex(pattern: str) -> re.Pattern[str]:
    head, reference, tail = pattern.partition("{}")
    # A subject such as /swarm is refused with everything below it.
    group = "(.*)" if reference and not head.endswith("/") else "(.+)"
    return re.compile(re.escape(head) + group * bool(reference) + re.escape(tail))


_COMPILED = tuple(
    (frozenset(route.methods.split()), _regex(route.pattern), route) for route in ROUTES
)


def find(method: str, path: str) -> Match:
    """Return the route of a call.

    :raises Refusal: if the API has no such call, or the endpoint does not answer it.
    """
    for methods, regex, route in _COMPILED:
        match = regex.fullmatch(path) if method in methods else None
        if match is None:
            continue
        if route.kind == REFUSED:
            raise Refusal(
                # Docker's client looks for these two words.
                f"{route.handler}: not supported by this endpoint, because each container is a "
                "virtual machine.",
                HTTPStatus.NOT_IMPLEMENTED,
            )
        return Match(route, match[1] if match.groups() else "")
    raise Refusal("page not found", HTTPStatus.NOT_FOUND)
