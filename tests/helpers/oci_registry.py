# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry of artifacts in memory, which fails when a test says so."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class OciRegistry:
    """The content of a registry, and its requests.

    :param login: user and password that each request needs, by a token; none if empty.
    """

    def __init__(self, login: tuple[str, str] = ("", "")) -> None:
        self.login = login
        self.port = 0
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.requests: Counter[str] = Counter()
        # Requests that break the connection, by method and number.
        self.breaks: set[tuple[str, int]] = set()
        # Requests of this method that are refused with this status, from this number on.
        self.refused: tuple[str, int, int] = ("", 0, 0)
        # The address that requests for tokens are redirected to; none if empty.
        self.token_address = ""
        # The logins of all requests.
        self.authorizations: set[str] = set()

    @property
    def address(self) -> str:
        """Return its address without a repository."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def sent(self) -> int:
        """Return the number of bytes of all blobs."""
        return sum(map(len, self.blobs.values()))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: OciRegistry

    def do_GET(self) -> None:  # the library's name
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("HEAD")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def log_message(self, *_arguments: Any) -> None:
        return

    def _serve(self, method: str) -> None:
        registry = self.registry
        registry.requests[method] += 1
        registry.authorizations.add(self.headers.get("Authorization", ""))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        number = registry.requests[method]
        if (method, number) in registry.breaks:
            self.connection.close()
            return None
        refused_method, first, status = registry.refused
        if method == refused_method and number >= first:
            return self._answer(status)
        parts = urlsplit(self.path)
        if parts.path == "/token" and registry.token_address:
            return self._answer(302, headers={"Location": f"{registry.token_address}/token"})
        if parts.path == "/token":
            pair = base64.b64encode(":".join(registry.login).encode()).decode()
            good = self.headers.get("Authorization") == f"Basic {pair}"
            return self._answer(200 if good else 401, b'{"token": "secret-token"}' * good)
        if registry.login[0] and self.headers.get("Authorization") != "Bearer secret-token":
            realm = f'Bearer realm="{registry.address}/token",service="test"'
            return self._answer(401, headers={"WWW-Authenticate": realm})
        repository, kind, name = parts.path.removeprefix("/v2/").rsplit("/", 2)
        repository = repository.removesuffix("/blobs")
        return self._content(method, repository, kind, name, parse_qs(parts.query), body)

    def _content(
        self,
        method: str,
        repository: str,
        kind: str,
        name: str,
        query: dict[str, list[str]],
        body: bytes,
    ) -> None:
        registry = self.registry
        if kind == "uploads" and method == "POST":
            source = (query.get("from", [""])[0], query.get("mount", [""])[0])
            if source in registry.blobs:
                registry.blobs[repository, source[1]] = registry.blobs[source]
                return self._answer(201)
            return self._answer(202, headers={"Location": f"/v2/{repository}/blobs/uploads/1?s=1"})
        if kind == "uploads" and method == "PUT":
            digest = query["digest"][0]
            is_complete = f"sha256:{hashlib.sha256(body).hexdigest()}" == digest
            if is_complete:
                registry.blobs[repository, digest] = body
            return self._answer(201 if is_complete else 400)
        table = registry.manifests if kind == "manifests" else registry.blobs
        if method == "PUT":
            table[repository, name] = body
            table[repository, f"sha256:{hashlib.sha256(body).hexdigest()}"] = body
            return self._answer(201)
        if (repository, name) not in table:
            return self._answer(404)
        return self._answer(200, table[repository, name])

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def serving(registry: OciRegistry) -> Iterator[OciRegistry]:
    """Serve a registry on the loopback."""
    handler = type("Handler", (_Handler,), {"registry": registry})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        registry.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
