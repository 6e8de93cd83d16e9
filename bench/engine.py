# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client of Docker in a host, by its API over mutual TLS: no Docker client is started, so that the
start of a client is not measured.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from stockyard import HostInfo
from stockyard.model.host import DOCKER_PORT
from stockyard.resources.hosts.docker_api import tls

PATIENCE = 300.0
JSON = {"Content-Type": "application/json"}


class Engine:
    """Connection to the Docker of one host, for a ``with`` statement.

    :param host: the host as modules return it.
    """

    def __init__(self, host: HostInfo) -> None:
        self._address = host.docker.endpoint.removeprefix("tcp://").rpartition(":")[0]
        self._context: ssl.SSLContext = tls(Path(host.docker.environment["DOCKER_CERT_PATH"]))
        self._connection = self.connection()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def connection(self) -> http.client.HTTPSConnection:
        """Return a new connection, which performs a TLS handshake at its first request."""
        return http.client.HTTPSConnection(
            self._address, DOCKER_PORT, timeout=PATIENCE, context=self._context
        )

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the decoded answer.

        :raises ConnectionError: if the request is refused.
        """
        text = None if body is None else json.dumps(body)
        self._connection.request(method, path, text, JSON)
        return self._answer(f"{method} {path}")

    def ping(self) -> float:
        """Return the seconds of the smallest request."""
        begin = time.monotonic()
        self._connection.request("GET", "/_ping")
        self._connection.getresponse().read()
        return time.monotonic() - begin

    def handshake(self) -> float:
        """Return the seconds of the same request over a new connection."""
        connection, begin = self.connection(), time.monotonic()
        try:
            connection.request("GET", "/_ping")
            connection.getresponse().read()
            return time.monotonic() - begin
        finally:
            connection.close()

    def run(self, image: str, *command: str) -> float:
        """Return the seconds to create and start a container and wait for its end; the container is
        deleted afterwards.

        :raises ConnectionError: if it does not end successfully.
        """
        begin = time.monotonic()
        container = self.start(image, *command)
        status = self.call("POST", f"/containers/{container}/wait")
        duration = time.monotonic() - begin
        if status["StatusCode"]:
            raise ConnectionError(f"{command} ended with {status['StatusCode']}")
        self.call("DELETE", f"/containers/{container}")
        return duration

    def start(self, image: str, *command: str) -> str:
        """Create and start a container and return its ID."""
        container = self.call("POST", "/containers/create", {"Image": image, "Cmd": list(command)})[
            "Id"
        ]
        self.call("POST", f"/containers/{container}/start")
        return str(container)

    def load(self, archive: Iterable[bytes], size: int) -> float:
        """Return the seconds to load a file of ``docker save``, streamed.

        :raises ConnectionError: if the request is refused.
        """
        begin = time.monotonic()
        headers = {"Content-Type": "application/x-tar", "Content-Length": str(size)}
        self._connection.request("POST", "/images/load?quiet=1", archive, headers)
        answer = str(self._answer("load"))
        if "error" in answer:
            raise ConnectionError(answer)
        return time.monotonic() - begin

    def _answer(self, request: str) -> Any:
        answer = self._connection.getresponse()
        text = answer.read().decode(errors="replace")
        if answer.status >= 400:
            raise ConnectionError(f"{request}: {answer.status} {text[:300]}")
        lines = [json.loads(line) for line in text.splitlines() if line.strip().startswith("{")]
        return lines[0] if lines else {}
