# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to dockerd in this guest."""

from __future__ import annotations

import http.client
import json
import os
import socket
from urllib.parse import quote

# The socket for users, and dockerd's own socket if an HTTP reader serves the first one.
SOCKET = "/run/docker.sock"
OWN_SOCKET = "/run/stockyard-docker/docker.sock"
PATIENCE = 10.0
LONGEST_ANSWER = 1024
# Seconds in which a container can end before it is killed, and for the whole request.
GRACE = 3
CHANGE = 60.0
# Docker's requests for each action, and the statuses of success: 304 if nothing had to change.
ACTIONS = {"pause": "pause", "restart": f"restart?t={GRACE}", "stop": f"stop?t={GRACE}"}
DONE = (204, 304)


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
    try:
        ping(UnixConnection(_socket()))
    except (OSError, http.client.HTTPException) as error:
        return {"answers": False, "cause": f"{type(error).__name__}: {error}"[:200]}
    return {"answers": True, "cause": ""}


def change_containers(action: str) -> dict[str, object]:
    """Pause, restart or stop all containers that run; return their number.

    :raises OSError: if dockerd refuses one.
    """
    request = ACTIONS[action]
    filters = quote(json.dumps({"status": ["running"]}))
    containers = json.loads(_ask("GET", f"/containers/json?filters={filters}", (200,)))
    for container in containers:
        _ask("POST", f"/containers/{quote(container['Id'])}/{request}", DONE)
    return {"changed": len(containers)}


def stop_users(path: str) -> dict[str, object]:
    """Stop all containers with a directory of the guest that is on, below or above a path; return
    their number.

    :raises OSError: if dockerd refuses one.
    """
    filters = quote(json.dumps({"status": ["running", "paused", "restarting"]}))
    try:
        answer = _ask("GET", f"/containers/json?filters={filters}", (200,))
    except (FileNotFoundError, ConnectionRefusedError):
        # Docker does not run.
        return {"changed": 0}
    containers = [
        container
        for container in json.loads(answer)
        if any(_overlap(mount.get("Source", ""), path) for mount in container.get("Mounts", ()))
    ]
    for container in containers:
        _ask("POST", f"/containers/{quote(container['Id'])}/{ACTIONS['stop']}", DONE)
    return {"changed": len(containers)}


def _overlap(source: str, path: str) -> bool:
    """Return whether one of two directories is, or is below, the other one."""
    first, second = f"{source.rstrip('/')}/", f"{path.rstrip('/')}/"
    return bool(source) and (first.startswith(second) or second.startswith(first))


def _ask(method: str, path: str, statuses: tuple[int, ...]) -> bytes:
    connection = UnixConnection(_socket(), CHANGE)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        if response.status not in statuses:
            raise OSError(f"{method} {path} answered {response.status}: {body[:200]!r}")
        return body
    finally:
        connection.close()


def _socket() -> str:
    return OWN_SOCKET if os.path.exists(OWN_SOCKET) else SOCKET
