# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests as no client would write them, over the mutual TLS of a host."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stockyard import HostInfo


class Raw:
    """A connection to a host's Docker, which stays open if the host lets it."""

    def __init__(self, host: HostInfo) -> None:
        environment = host.docker.environment
        folder = Path(environment["DOCKER_CERT_PATH"])
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        target = urlsplit(environment["DOCKER_HOST"])
        self.connection = http.client.HTTPSConnection(
            str(target.hostname), target.port, context=context, timeout=120
        )

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_error: object) -> None:
        self.connection.close()

    def __call__(
        self, path: str, body: Any = None, method: str = "POST", **headers: str
    ) -> tuple[int, str]:
        """Return the status and the text of an answer."""
        chunked = not isinstance(body, (bytes, type(None)))
        try:
            self.connection.request(
                method,
                path,
                body,
                {"Content-Type": "application/json", **headers},
                encode_chunked=chunked,
            )
            answer = self.connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise


def send(
    host: HostInfo, path: str, body: Any = None, method: str = "POST", **headers: str
) -> tuple[int, str]:
    """Send one request on a connection of its own; return the status and the text of the answer."""
    with Raw(host) as connection:
        return connection(path, body, method, **headers)
