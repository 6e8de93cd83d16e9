# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker in a host, over mutual TLS, by its API: no client of Docker's is started, so none is
measured.
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

from stockyard.model.host import DOCKER_PORT
from stockyard.resources.hosts.docker_api import tls

PATIENCE = 300.0
JSON = {"Content-Type": "application/json"}


class Engine:
    """One connection to one host's Docker. Use it in a ``with`` statement.

    :param host: as modules return it.
    """

    def __init__(self, host: dict[str, Any]) -> None:
        self._address = host["docker"]["endpoint"].removeprefix("tcp://").rpartition(":")[0]
        self._context: ssl.SSLContext = tls(Path(host["docker"]["environment"]["DOCKER_CERT_PATH"]))
        self._connection = self.connection()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def connection(self) -> http.client.HTTPSConnection:
        """Another one, which shakes hands anew at its first request."""
        return http.client.HTTPSConnection(
            self._address, DOCKER_PORT, timeout=PATIENCE, context=self._context
        )

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request; what it is answered with, decoded.

        :raises ConnectionError: when it is refused.
        """
        text = None if body is None else json.dumps(body)
        self._connection.request(method, path, text, JSON)
        return self._answer(f"{method} {path}")

    def ping(self) -> float:
        """Seconds for the smallest question."""
        begin = time.monotonic()
        self._connection.request("GET", "/_ping")
        self._connection.getresponse().read()
        return time.monotonic() - begin

    def handshake(self) -> float:
        """Seconds for the same question over a connection of its own."""
        connection, begin = self.connection(), time.monotonic()
        try:
            connection.request("GET", "/_ping")
            connection.getresponse().read()
            return time.monotonic() - begin
        finally:
            connection.close()

    def run(self, image: str, *command: str) -> float:
        """Seconds to make a container, start it and see it end; it is removed afterwards.

        :raises ConnectionError: when it does not end well.
        """
        begin = time.monotonic()
        made = self.start(image, *command)
        ended = self.call("POST", f"/containers/{made}/wait")
        took = time.monotonic() - begin
        if ended["StatusCode"]:
            raise ConnectionError(f"{command} ended with {ended['StatusCode']}")
        self.call("DELETE", f"/containers/{made}")
        return took

    def start(self, image: str, *command: str) -> str:
        """Have a container run; returns its ID."""
        made = self.call("POST", "/containers/create", {"Image": image, "Cmd": list(command)})["Id"]
        self.call("POST", f"/containers/{made}/start")
        return str(made)

    def load(self, archive: Iterable[bytes], size: int) -> float:
        """Seconds to take in a file of ``docker save``, streamed.

        :raises ConnectionError: when it is refused.
        """
        begin = time.monotonic()
        headers = {"Content-Type": "application/x-tar", "Content-Length": str(size)}
        self._connection.request("POST", "/images/load?quiet=1", archive, headers)
        said = str(self._answer("load"))
        if "error" in said:
            raise ConnectionError(said)
        return time.monotonic() - begin

    def _answer(self, asked: str) -> Any:
        answer = self._connection.getresponse()
        text = answer.read().decode(errors="replace")
        if answer.status >= 400:
            raise ConnectionError(f"{asked}: {answer.status} {text[:300]}")
        lines = [json.loads(line) for line in text.splitlines() if line.strip().startswith("{")]
        return lines[0] if lines else {}
