# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy with the configuration of an uplink, between a client, a web server and a name server on
the loopback of a namespace. Unlike :mod:`.uplink_allow_lab`, it has no uplink.
"""

from __future__ import annotations

import json
import os
import re
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ClassVar

from stockyard.model.destinations import destinations
from stockyard.providers.libvirt import uplink_names, uplink_proxy, uplink_tools

from .uplink_allow_attacks import FINE, hello, request

ADDRESS, WEB_SERVER = "127.0.0.1", "127.0.0.2"
MISSING = "missing.example.org"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
# Requests for an upgrade, by name.
UPGRADES = {
    "websocket": (KEY, "Upgrade: WebSocket"),
    "h2c": ("Upgrade: h2c",),
    "two lines": ("Upgrade: websocket", "Upgrade: h2c"),
    "two lines, h2c first": (KEY, "Upgrade: h2c", "Upgrade: websocket"),
    "a list": (KEY, "Upgrade: h2c, websocket"),
}
# The first bytes of a client of HTTP/2: the preface, and empty settings.
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
HOSTS = (
    FINE,
    FINE.upper(),
    f"{FINE}:80",
    f"{FINE}:x@evil.example.com",
    f"{FINE}:evil.example.com",
    f"{FINE}:80 evil.example.com",
    f"evil.example.com, {FINE}",
    f"{FINE}.evil.example.com",
)


class WebServer(socketserver.BaseRequestHandler):
    """A web server that agrees to each upgrade, and repeats all bytes after it."""

    # The protocols of the last request for an upgrade.
    protocols: ClassVar[list[str]] = []

    def handle(self) -> None:
        """Answer requests."""
        text = self.request.recv(65536)
        if values := re.findall(rb"\r\nupgrade:([^\r]*)", text.lower()):
            WebServer.protocols = b",".join(values).decode("ascii").replace(" ", "").split(",")
            self.request.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
            )
            self.request.sendall(self.request.recv(65536))
        elif text:
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def serve_names() -> None:
    """Answer each question with the address of the web server, except for one name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((ADDRESS, 53))
        while True:
            message, client = server.recvfrom(4096)
            name, _kind, question = uplink_names.read_question(message)
            if name == MISSING:
                answer = uplink_names.write_answer(message, question, uplink_names.NO_NAME)
            else:
                answer = uplink_names.write_answer(message, question, 0, [WEB_SERVER], 60)
            server.sendto(answer, client)


def send(*parts: bytes, port: int = uplink_proxy.HTTP) -> bytes:
    """Send bytes to HAProxy, each part after an answer to the last one; return the last answer."""
    answer = b""
    place = ADDRESS, uplink_proxy.LISTENERS[port]
    with socket.create_connection(place, 20) as stream, suppress(OSError):
        for part in parts:
            stream.sendall(part)
            answer = stream.recv(4096)
    return answer


def upgraded(lines: Sequence[str]) -> list[str]:
    """Return the protocols of a request for an upgrade at the web server, if HAProxy does not read
    the bytes after it.
    """
    connection = "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"
    answer = send(request(FINE, *connection, *lines), b"UNREAD\r\n\r\n")
    return WebServer.protocols if b"UNREAD" in answer else []


def main() -> None:
    """Start HAProxy, and print facts about its answers."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=20)
    threading.Thread(target=serve_names, daemon=True).start()
    web_server = socketserver.ThreadingTCPServer((WEB_SERVER, uplink_proxy.HTTP), WebServer)
    threading.Thread(target=web_server.serve_forever, daemon=True).start()
    refusals = uplink_names.Refusals(os.path.join(os.environ["LAB"], "refused.json"), ["false"])
    settings = {
        "address": ADDRESS,
        "configuration": uplink_proxy.configuration(destinations([FINE, MISSING]), ADDRESS),
        "haproxy": uplink_tools.haproxy(),
        "ports": list(uplink_proxy.LISTENERS.values()),
    }
    proxy = uplink_names.Proxy(settings, refusals)
    threading.Thread(target=proxy.read_log, daemon=True).start()
    facts: dict[str, Any] = {
        "upgraded": {name: upgraded(lines) for name, lines in UPGRADES.items()},
        "hosts": [host for host in HOSTS if send(request(host)).startswith(b"HTTP/1.1 200 ")],
        "http2": send(HTTP2).decode("ascii", "replace"),
    }
    # HAProxy asks again for some seconds.
    with ThreadPoolExecutor() as pool:
        pool.submit(send, hello(MISSING), port=uplink_proxy.TLS)
        pool.submit(send, request(MISSING))
    # Lines of the log are read in their order, so the last one is the line of this request.
    send(request("last.example.com"))
    while ("last.example.com", "http", uplink_proxy.HTTP) not in refusals.counts:
        time.sleep(0.01)
    facts["refused without an address"] = [key for key in refusals.counts if MISSING in key]
    facts["refused over TLS"] = [key for key in refusals.counts if "tls" in key]
    print(json.dumps(facts))
    proxy.process.kill()
