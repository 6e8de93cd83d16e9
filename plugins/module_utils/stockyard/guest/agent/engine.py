# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that dockerd in this guest answers."""

from __future__ import annotations

import http.client
import os
import socket

# The socket for users, and dockerd's own socket if an HTTP reader serves the first one.
SOCKET = "/run/docker.sock"
OWN_SOCKET = "/run/stockyard-docker/docker.sock"
PATIENCE = 10.0
LONGEST_ANSWER = 1024


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float = PATIENCE) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ping(connection: http.client.HTTPConnection) -> str:
    """Send one ping; return the name and version of the server.

    :raises OSError: if the status is not 200.
    """
    try:
        connection.request("GET", "/_ping")
        response = connection.getresponse()
        response.read(LONGEST_ANSWER)
        if response.status != 200:
            raise OSError(f"_ping answered {response.status}")
        return response.headers.get("Server", "")
    finally:
        connection.close()


def probe() -> dict[str, object]:
    """Ping dockerd directly, without the TLS front and the reader. Return whether it answers, and
    the error if not.
    """
    path = OWN_SOCKET if os.path.exists(OWN_SOCKET) else SOCKET
    try:
        ping(UnixConnection(path))
    except (OSError, http.client.HTTPException) as error:
        return {"answers": False, "cause": f"{type(error).__name__}: {error}"[:200]}
    return {"answers": True, "cause": ""}
