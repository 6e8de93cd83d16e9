# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plugin's server: Docker's plugin protocol
(docs.docker.com/engine/extend/plugins_authorization) on a socket.

The plugin fails closed: any error is a refusal, and while the plugin is down dockerd refuses all
requests. Behind a front that ends TLS dockerd does not know the user: the same rules apply to all
users.
"""

from __future__ import annotations

import json
import os
import socketserver
import sys
from http.server import BaseHTTPRequestHandler
from typing import Any

from .body import Denied
from .policy import Policy
from .rules import check

LONGEST = 8 << 20
MIME = "application/vnd.docker.plugins.v1.2+json"


def read_policy(path: str) -> Policy:
    """Return the policy on disk. A broken policy ends the plugin, and dockerd then refuses all
    requests.
    """
    with open(path, encoding="utf-8") as handle:
        fields = json.load(handle)
    lists = {name: tuple(fields[name]) for name in ("mounts", "images", "pools")}
    return Policy(**lists, by_digest=bool(fields["by_digest"]), build=bool(fields["build"]))


def answer(policy: Policy, path: str, body: bytes) -> dict[str, Any]:
    """Return the answer to one call from dockerd."""
    if path == "/Plugin.Activate":
        return {"Implements": ["authz"]}
    if path == "/AuthZPlugin.AuthZRes":
        return {"Allow": True}
    try:
        if path != "/AuthZPlugin.AuthZReq":
            raise Denied("unknown call of the plugin")
        check(policy, json.loads(body))
    except Denied as denied:
        return {"Allow": False, "Msg": str(denied)}
    except Exception as error:  # noqa: BLE001  # any error is a refusal
        return {"Allow": False, "Msg": f"the plugin failed: {type(error).__name__}"}
    return {"Allow": True}


class Handler(BaseHTTPRequestHandler):
    """Handler of dockerd's HTTP calls, with persistent connections."""

    protocol_version = "HTTP/1.1"
    policy = Policy()

    def do_POST(self) -> None:
        """Answer a call."""
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 <= length <= LONGEST or self.headers.get("Transfer-Encoding"):
            self.send_error(413)
            self.close_connection = True
            return
        data = json.dumps(answer(self.policy, self.path, self.rfile.read(length))).encode()
        self.send_response(200)
        self.send_header("Content-Type", MIME)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    # the base class's name for it
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: bodies and addresses are private, and refusals are in dockerd's answer."""

    def address_string(self) -> str:
        """Return a fixed name: a peer on a Unix socket has no address."""
        return "dockerd"


class Server(socketserver.ThreadingUnixStreamServer):
    """Server with a thread for each connection of dockerd's."""

    daemon_threads = True
    # The number of requests that clients can send at once.
    request_queue_size = 4096


def serve(socket: str, policy: Policy) -> Server:
    """Return a server that listens on a socket."""
    if os.path.exists(socket):
        os.unlink(socket)
    return Server(socket, type("Bound", (Handler,), {"policy": policy}))


def main(arguments: list[str]) -> None:
    """Serve for ever."""
    socket, policy = arguments
    serve(socket, read_policy(policy)).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
