# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of routes, each with the names of its query and the table of its body. All other
requests are refused.

Paths are those of API 1.24 to 1.53. dockerd accepts older versions too, in which the request that
starts a container can have a configuration: these versions are refused. A path that is not written
plainly (percent signs, empty or dotted segments) is refused, because plugin and dockerd could read
it differently.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from . import tables
from .body import Denied, decoded, folded, parsed
from .policy import Policy, image
from .schema import EMPTY, Kind

_VERSION = re.compile(r"/v([0-9]{1,3})\.([0-9]{1,3})(/.*)")
_PLAIN = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/-]*")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
OLDEST = (1, 24)
# dockerd reads all values of these names, and the first value of any other name.
REPEATED = frozenset(
    ("t", "extrahosts", "changes", "names", "platform", "platforms", "securityopt", "type")
)
UNSET = ("", "0", "false", "null", "[]", "{}")

Query = dict[str, list[str]]
Check = Callable[[Policy, Query], None]
ID = r"[^/]+"
# An image's name has slashes in it.
NAME = r".+"


@dataclass(frozen=True)
class Route:
    """A kind of request that is allowed.

    :param query: names that the query may have.
    :param body: table of the body; nothing if dockerd does not decode a body.
    :param optional: whether dockerd accepts the request without a body.
    :param check: check of the query.
    """

    method: str
    path: str
    query: str = ""
    body: Kind | None = None
    optional: bool = False
    check: Check | None = None


def no_unnamed_image(policy: Policy, _query: Query) -> None:
    """Refuse images without a name to check, if the policy lists images."""
    if policy.lists_images:
        raise Denied("only images of the list are let in, and what is in this one cannot be seen")


def pull(policy: Policy, query: Query) -> None:
    """Refuse a registry's image that the policy does not list, and an image from an archive."""
    name, tag = query.get("fromImage", [""])[0], query.get("tag", [""])[0]
    # dockerd would fetch a URL itself, and so reach services on the host's loopback.
    if query.get("fromSrc", [""])[0] not in ("", "-"):
        raise Denied("fromSrc must be -: dockerd fetches no archives from addresses")
    if not name:
        no_unnamed_image(policy, query)
        return
    separator = "@" if tag.startswith("sha256:") else ":"
    image(policy, name + (separator + tag if tag else ""))


def build(policy: Policy, query: Query) -> None:
    """Refuse a build if the policy forbids builds or if the build uses the host's resources. The
    Dockerfile is in an archive, which no plugin sees.
    """
    if not policy.build:
        raise Denied("images are not built on this host")
    no_unnamed_image(policy, query)
    if query.get("remote", [""])[0]:
        raise Denied("a build may not set remote: dockerd fetches no context from an address")
    if query.get("version", ["1"]) not in (["1"], [""]):
        no_buildkit(policy, query)
    for name in ("networkmode", "securityopt", "cgroupparent", "outputs", "session"):
        if any(
            value not in ("", "default", "none", "bridge", "null", "[]")
            for value in query.get(name, [])
        ):
            raise Denied(f"a build may not set {name}")
    if limits := query.get("ulimits", [""])[0]:
        tables.ULIMITS.read(policy, "ulimits", parsed(limits))


def no_buildkit(_policy: Policy, _query: Query) -> None:
    """Refuse the sessions of BuildKit, in which a client can send requests that no plugin sees."""
    raise Denied("BuildKit's requests cannot be seen: set DOCKER_BUILDKIT=0")


_STREAMS = "detachKeys logs stream stdin stdout stderr"
_COMMIT = "author changes comment container pause repo tag"
_PRUNE = "filters all keep-storage reserved-space max-used-space min-free-space"
_BUILD = (
    "buildargs buildid cachefrom cgroupparent cpuperiod cpuquota cpusetcpus cpusetmems cpushares "
    "dockerfile extrahosts "
    "forcerm isolation labels memory memswap networkmode nocache outputs platform pull q remote rm "
    "securityopt session "
    "shmsize squash t target ulimits version"
)
ROUTES = (
    Route("GET", "(_ping|version|info)"),
    Route("HEAD", "_ping"),
    Route("GET", "events", "since until filters"),
    Route("GET", "system/df", "type verbose"),
    Route("GET", "plugins", "filters"),
    Route("POST", "auth", body=tables.LOGIN),
    Route("GET", f"distribution/{NAME}/json"),
    Route("GET", "containers/json", "all before filters limit since size"),
    Route("GET", f"containers/{ID}/json", "size"),
    Route("GET", f"containers/{ID}/top", "ps_args"),
    Route(
        "GET", f"containers/{ID}/logs", "details follow since stderr stdout tail timestamps until"
    ),
    Route("GET", f"containers/{ID}/(changes|export)"),
    Route("GET", f"containers/{ID}/stats", "one-shot stream"),
    Route("GET", f"containers/{ID}/attach/ws", _STREAMS),
    Route("GET", f"containers/{ID}/archive", "path"),
    Route("HEAD", f"containers/{ID}/archive", "path"),
    Route("PUT", f"containers/{ID}/archive", "copyUIDGID noOverwriteDirNonDir path"),
    Route("POST", "containers/create", "name platform", tables.CONTAINER),
    Route("POST", f"containers/{ID}/update", body=tables.UPDATE),
    Route("POST", f"containers/{ID}/exec", body=tables.EXEC),
    Route("POST", f"containers/{ID}/start", "detachKeys", EMPTY, optional=True),
    Route("POST", f"containers/{ID}/(stop|restart)", "signal t"),
    Route("POST", f"containers/{ID}/kill", "signal"),
    Route("POST", f"containers/{ID}/(pause|unpause)"),
    Route("POST", f"containers/{ID}/wait", "condition"),
    Route("POST", f"containers/{ID}/resize", "h w"),
    Route("POST", f"containers/{ID}/rename", "name"),
    Route("POST", f"containers/{ID}/attach", _STREAMS),
    Route("POST", "containers/prune", "filters"),
    Route("DELETE", f"containers/{ID}", "force link v"),
    Route("GET", f"exec/{ID}/json"),
    Route("POST", f"exec/{ID}/start", body=tables.EXEC_START),
    Route("POST", f"exec/{ID}/resize", "h w"),
    Route("GET", "images/json", "all digests filter filters identity manifests shared-size"),
    Route("GET", "images/search", "filters limit term"),
    Route("GET", f"images/(get|{NAME}/get)", "names platform"),
    Route("GET", f"images/{NAME}/json", "manifests platform size"),
    Route("GET", f"images/{NAME}/history", "platform"),
    Route(
        "POST", "images/create", "changes fromImage fromSrc message platform repo tag", check=pull
    ),
    Route("POST", "images/load", "platform quiet", check=no_unnamed_image),
    Route("POST", "commit", _COMMIT, tables.COMMIT, optional=True, check=no_unnamed_image),
    Route("POST", f"images/{NAME}/tag", "force repo tag", check=no_unnamed_image),
    Route("POST", f"images/{NAME}/push", "platform tag"),
    Route("POST", "images/prune", "filters"),
    Route("DELETE", f"images/{NAME}", "force noprune platforms"),
    Route("POST", "build", _BUILD, check=build),
    Route("POST", "build/prune", _PRUNE),
    Route("POST", "build/cancel", "id"),
    Route("POST", "(grpc|session)", check=no_buildkit),
    Route("GET", "networks", "filters"),
    Route("GET", f"networks/{ID}", "scope verbose"),
    Route("POST", "networks/create", body=tables.NETWORK),
    Route("POST", f"networks/{ID}/connect", body=tables.CONNECT),
    Route("POST", f"networks/{ID}/disconnect", body=tables.DISCONNECT),
    Route("POST", "networks/prune", "filters"),
    Route("DELETE", f"networks/{ID}"),
    Route("GET", "volumes", "filters"),
    Route("GET", f"volumes/{ID}"),
    Route("POST", "volumes/create", body=tables.VOLUME),
    Route("POST", "volumes/prune", "filters"),
    Route("DELETE", f"volumes/{ID}", "force"),
)
_COMPILED = tuple((route, re.compile(f"/{route.path}")) for route in ROUTES)


def check(policy: Policy, request: dict[str, Any]) -> None:
    """Check a request to dockerd.

    :param request: ``RequestMethod``, ``RequestUri``, ``RequestHeaders`` and ``RequestBody`` of the
        plugin's protocol.
    :raises Denied: if the request is not allowed, or cannot be checked.
    """
    method, uri = request.get("RequestMethod"), request.get("RequestUri")
    if not isinstance(method, str) or not isinstance(uri, str):
        raise Denied("this request has no method or no path")
    path, query = split(uri)
    _no_form(request.get("RequestHeaders"))
    for route, pattern in _COMPILED:
        if route.method == method and pattern.fullmatch(path):
            _hold(policy, route, query, request.get("RequestBody"))
            return
    raise Denied(f"{method} {path[:80]} is not on the list")


def _hold(policy: Policy, route: Route, query: Query, encoded: object) -> None:
    names = route.query.split()
    for name, values in query.items():
        if name not in names and any(value not in UNSET for value in values):
            raise Denied(f"the query of this request may not set {name[:80]!a}")
        if len(values) > 1 and name not in REPEATED:
            raise Denied(f"the query of this request has {name[:80]!a} twice")
    if route.check:
        route.check(policy, query)
    if route.body and (encoded or not route.optional):
        try:
            route.body.read(policy, "", decoded(encoded))
        except RecursionError as error:
            raise Denied("the body of this request is nested too deeply") from error


def _no_form(headers: object) -> None:
    """Refuse a form: Go treats a form in the body as part of the query, with precedence. No client
    of Docker's sends forms.
    """
    pairs = headers.items() if isinstance(headers, dict) else ()
    if any(
        folded(str(name)) == "content-type" and "form" in str(value).lower()
        for name, value in pairs
    ):
        raise Denied("forms are not let through")


def split(uri: str) -> tuple[str, Query]:
    """Return the path without its version, and the query.

    :raises Denied: if path or query are not written plainly, or the version is too old.
    """
    path, _mark, text = uri.partition("?")
    if not _PLAIN.fullmatch(path) or any(part in ("", ".", "..") for part in path[1:].split("/")):
        raise Denied("the path of this request is not written plainly")
    version_match = _VERSION.fullmatch(path)
    if version_match:
        if (int(version_match[1]), int(version_match[2])) < OLDEST:
            raise Denied("API versions before 1.24 are not let through")
        path = version_match[3]
    elif re.match(r"/v[0-9.]*(/|$)", path):
        raise Denied("the version of this request is not written plainly")
    return path, _query(text)


def _query(text: str) -> Query:
    """Return the values of a query by name. Go splits only at ampersands, and drops parts with bad
    escapes: semicolons and bad escapes are refused.
    """
    if ";" in text or _BAD_ESCAPE.search(text):
        raise Denied("the query of this request is not written plainly")
    try:
        return parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=200)
    except (ValueError, UnicodeError) as error:
        raise Denied("the query of this request is not written plainly") from error
