# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls of ``docker run --rm`` and ``docker exec``, as Docker's client sends them, with the
time of each: no Docker client is started, so that the start of a client is not measured.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from stockyard import HostInfo
from stockyard.model.host import DOCKER_PORT
from stockyard.resources.hosts.docker_api import tls

PATIENCE = 300.0
HEAD_END = b"\r\n\r\n"
# Returns a new connection to a Docker daemon.
Connect: TypeAlias = Callable[[], socket.socket]


@dataclass
class Run:
    """The time of one run, in seconds since its begin.

    :param ends: the end of each call, in the order of the calls.
    """

    begin: float = field(default_factory=time.monotonic)
    ends: dict[str, float] = field(default_factory=dict)

    def note(self, phase: str) -> None:
        """Note the end of a phase."""
        self.ends[phase] = time.monotonic() - self.begin

    def spans(self) -> list[tuple[str, float, float]]:
        """Return label, begin and end of each phase."""
        begins = [0.0, *self.ends.values()]
        return [
            (f"client: {label}", begin, end)
            for (label, end), begin in zip(self.ends.items(), begins, strict=False)
        ]


CREATE, ATTACH, START = "create", "attach", "start"
FIRST_BYTE, EXIT, REMOVED = "first byte of output", "end of output", "removed"


def unix(path: Path) -> Connect:
    """Return a function that connects to a Unix socket."""

    def connect() -> socket.socket:
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(PATIENCE)
        line.connect(str(path))
        return line

    return connect


def mutual_tls(host: HostInfo) -> Connect:
    """Return a function that connects to Docker in a host."""
    address = host.docker.endpoint.removeprefix("tcp://").rpartition(":")[0]
    context: ssl.SSLContext = tls(Path(host.docker.environment["DOCKER_CERT_PATH"]))

    def connect() -> socket.socket:
        line = socket.create_connection((address, DOCKER_PORT), PATIENCE)
        return context.wrap_socket(line, server_hostname=address)

    return connect


def run(connect: Connect, image: str, *command: str, network: str = "default") -> Run:
    """Run a container until it is removed, and return the times.

    :raises ConnectionError: if the container does not end successfully.
    """
    config = {
        "Image": image,
        "Cmd": list(command),
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {"AutoRemove": True, "NetworkMode": network},
    }
    measured = Run()
    with contextlib.closing(connect()) as line:
        container = str(call(line, "POST", "/containers/create", config)["Id"])
        measured.note(CREATE)
        with contextlib.closing(connect()) as stream, contextlib.closing(connect()) as waiting:
            _upgrade(stream, f"/containers/{container}/attach?stream=1&stdout=1&stderr=1")
            _send(waiting, "POST", f"/containers/{container}/wait?condition=removed")
            measured.note(ATTACH)
            call(line, "POST", f"/containers/{container}/start")
            measured.note(START)
            stream.recv(1)
            measured.note(FIRST_BYTE)
            while stream.recv(65536):
                pass
            measured.note(EXIT)
            result = _answer(waiting, "wait")
            measured.note(REMOVED)
    if result["StatusCode"]:
        raise ConnectionError(f"{command} ended with {result['StatusCode']}")
    return measured


def execute(line: socket.socket, connect: Connect, container: str, *command: str) -> float:
    """Return the seconds to run a program in a container, until the end of its output."""
    begin = time.monotonic()
    config = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True}
    instance = call(line, "POST", f"/containers/{container}/exec", config)["Id"]
    with contextlib.closing(connect()) as stream:
        _upgrade(stream, f"/exec/{instance}/start", {"Detach": False, "Tty": False})
        while stream.recv(65536):
            pass
    return time.monotonic() - begin


def call(line: socket.socket, method: str, path: str, body: Any = None) -> Any:
    """Send a call and return the decoded answer.

    :raises ConnectionError: if the call is refused.
    """
    _send(line, method, path, body)
    return _answer(line, f"{method} {path}")


def _send(line: socket.socket, method: str, path: str, body: Any = None, headers: str = "") -> None:
    text = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(text)}\r\n{headers}\r\n"
    )
    line.sendall(head.encode() + text)


def _upgrade(line: socket.socket, path: str, body: Any = None) -> None:
    """Send a call whose answer is a stream, and read the head of the answer."""
    _send(line, "POST", path, body, "Connection: Upgrade\r\nUpgrade: tcp\r\n")
    head = b""
    while not head.endswith(HEAD_END):
        byte = line.recv(1)
        if not byte:
            raise ConnectionError(f"POST {path}: the connection ended")
        head += byte
    if not head.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(f"POST {path}: {head.decode(errors='replace')}")


def _answer(line: socket.socket, request: str) -> Any:
    answer = http.client.HTTPResponse(line)
    answer.begin()
    text = answer.read().decode(errors="replace")
    if answer.status >= http.HTTPStatus.BAD_REQUEST:
        raise ConnectionError(f"{request}: {answer.status} {text[:300]}")
    return json.loads(text) if text.strip() else {}
