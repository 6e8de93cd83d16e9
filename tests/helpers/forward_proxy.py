# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP proxy whose only other machine is its own: it connects to the port of each requested name
at its own address.

    python3 -m tests.helpers.forward_proxy ADDRESS PORT
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from urllib.parse import urlsplit

CHUNK = 65536
# Seconds for a connection without data.
PATIENCE = 60.0


class Handler(socketserver.StreamRequestHandler):
    """Serve one request of a client, and close the connection."""

    def handle(self) -> None:
        """Connect a tunnel, or pass a request on."""
        method, target, _version = self.rfile.readline().decode("latin-1").split()
        lines = list(iter(self.rfile.readline, b"\r\n"))
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        place = (self.request.getsockname()[0], parts.port or 80)
        with socket.create_connection(place, PATIENCE) as server:
            if method == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                head = f"{method} {parts.path or '/'} HTTP/1.0\r\n".encode()
                headers = [line for line in lines if not line.lower().startswith(b"connection:")]
                server.sendall(head + b"".join(headers) + b"Connection: close\r\n\r\n")
            back = threading.Thread(target=copy, args=(server, self.connection), daemon=True)
            back.start()
            copy(self.connection, server)
            back.join(PATIENCE)


def copy(source: socket.socket, target: socket.socket) -> None:
    """Pass all bytes on, and the end of them."""
    try:
        while data := source.recv(CHUNK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Server(socketserver.ThreadingTCPServer):
    """Serve many clients at once."""

    allow_reuse_address = daemon_threads = True


if __name__ == "__main__":
    with Server((sys.argv[1], int(sys.argv[2])), Handler) as server:
        server.serve_forever()
