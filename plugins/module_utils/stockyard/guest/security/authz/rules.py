# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the remote API is let through: a list of routes, each with what has to be looked at. The rest is refused.

Paths are those of API 1.24 to 1.51. dockerd takes older versions too, where a request to start a container may carry a
configuration: these are refused. A path that is not written in the plain way (percent signs, empty or dotted segments)
is refused and not mended, so that both sides cannot read it differently.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from .body import Denied, decoded, folded
from .policy import Policy, check_build, check_create, check_exec, check_network, check_pull, check_update, check_volume

_VERSION = re.compile(r"/v([0-9]{1,3})\.([0-9]{1,3})(/.*)")
_PLAIN = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/-]*")
OLDEST = (1, 24)

Query = dict[str, list[str]]
Look = Callable[[Policy, Query, Callable[[], dict[str, Any]]], None]
ID = r"[^/]+"
# An image's name has slashes in it.
NAME = r".+"


def _free(_policy: Policy, _query: Query, _body: Callable[[], dict[str, Any]]) -> None:
    """Nothing to look at."""


def _when_all_images(policy: Policy, _query: Query, _body: Callable[[], dict[str, Any]]) -> None:
    """What brings in images that have no name to look at."""
    if policy.images or policy.by_digest:
        raise Denied("only images of the list are let in, and what is in this one cannot be seen")


READ = (
    "_ping", "version", "info", "events", "system/df", "images/json", "images/search", "images/get", "containers/json",
    "volumes", "networks", f"images/{NAME}/(json|history|get)", f"networks/{ID}", f"volumes/{ID}", f"exec/{ID}/json",
    f"distribution/{NAME}/json", f"containers/{ID}/(json|top|logs|changes|export|stats|attach/ws|archive)", "plugins",
)  # fmt: skip
ROUTES: tuple[tuple[str, str, Look], ...] = (
    *(("GET", path, _free) for path in READ),
    ("HEAD", "_ping", _free),
    ("HEAD", f"containers/{ID}/archive", _free),
    ("POST", "auth", _free),
    ("POST", "containers/create", lambda policy, _query, body: check_create(policy, body())),
    ("POST", f"containers/{ID}/update", lambda policy, _query, body: check_update(policy, body())),
    ("POST", f"containers/{ID}/exec", lambda policy, _query, body: check_exec(policy, body())),
    ("POST", f"exec/{ID}/(start|resize)", _free),
    (
        "POST",
        f"containers/{ID}/(start|stop|restart|kill|pause|unpause|wait|resize|rename|attach)",
        _free,
    ),
    ("POST", "containers/prune", _free),
    ("PUT", f"containers/{ID}/archive", _free),
    ("DELETE", f"containers/{ID}", _free),
    ("POST", "images/create", lambda policy, query, _body: check_pull(policy, query)),
    ("POST", "images/load", _when_all_images),
    ("POST", "commit", _when_all_images),
    ("POST", f"images/{NAME}/tag", _when_all_images),
    ("POST", f"images/{NAME}/push", _free),
    ("POST", "images/prune", _free),
    ("DELETE", f"images/{NAME}", _free),
    ("POST", "build", lambda policy, query, _body: check_build(policy, query)),
    ("POST", "build/(prune|cancel)", _free),
    ("POST", "networks/create", lambda policy, _query, body: check_network(policy, body())),
    ("POST", f"networks/{ID}/(connect|disconnect)", _free),
    ("POST", "networks/prune", _free),
    ("DELETE", f"networks/{ID}", _free),
    ("POST", "volumes/create", lambda policy, _query, body: check_volume(policy, body())),
    ("POST", "volumes/prune", _free),
    ("DELETE", f"volumes/{ID}", _free),
)
_COMPILED = tuple((method, re.compile(f"/{path}"), look) for method, path, look in ROUTES)


def check(policy: Policy, request: dict[str, Any]) -> None:
    """Let a request of dockerd's through.

    :param request: ``RequestMethod``, ``RequestUri`` and ``RequestBody`` of the plugin's protocol.
    :raises Denied: when it is not to be done, or nobody can tell.
    """
    method, uri = request.get("RequestMethod"), request.get("RequestUri")
    if not isinstance(method, str) or not isinstance(uri, str):
        raise Denied("this request has no method or no path")
    path, query = split(uri)
    _no_form(request.get("RequestHeaders"))
    for known, pattern, look in _COMPILED:
        if known == method and pattern.fullmatch(path):
            look(policy, query, lambda: decoded(request.get("RequestBody")))
            return
    raise Denied(f"{method} {path[:80]} is not on the list")


def _no_form(headers: object) -> None:
    """Go takes a form in the body for a part of the query, and a stronger one. No client of Docker's sends forms."""
    found = headers if isinstance(headers, dict) else {}
    if any(folded(str(name)) == "content-type" and "form" in str(value).lower() for name, value in found.items()):
        raise Denied("forms are not let through")


def split(uri: str) -> tuple[str, Query]:
    """The path without its version, and the query.

    :raises Denied: when they are not written plainly.
    """
    path, _mark, text = uri.partition("?")
    if not _PLAIN.fullmatch(path) or any(part in ("", ".", "..") for part in path[1:].split("/")):
        raise Denied("the path of this request is not written plainly")
    versioned = _VERSION.fullmatch(path)
    if versioned:
        if (int(versioned[1]), int(versioned[2])) < OLDEST:
            raise Denied("API versions before 1.24 are not let through")
        path = versioned[3]
    elif re.match(r"/v[0-9.]*(/|$)", path):
        raise Denied("the version of this request is not written plainly")
    return path, _query(text)


def _query(text: str) -> Query:
    """The values by name. Go splits at ampersands, and so does this; it refuses semicolons."""
    if ";" in text:
        raise Denied("the query of this request is not written plainly")
    try:
        found = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=200)
    except (ValueError, UnicodeError) as error:
        raise Denied("the query of this request is not written plainly") from error
    if len({folded(name) for name in found}) != len(found):
        raise Denied("the query of this request has a name twice")
    return found
