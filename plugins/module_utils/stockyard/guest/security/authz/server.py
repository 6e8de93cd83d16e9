# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plugin's server: Docker's plugin protocol
(docs.docker.com/engine/extend/plugins_authorization) on a socket.

It fails closed: whatever goes wrong is a refusal, and while it is not there dockerd refuses
everything. Behind a front that ends TLS dockerd knows no user: the same rules hold for all.
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
    """The policy on disk. A broken one ends the plugin, and with it all use of dockerd."""
    with open(path, encoding="utf-8") as handle:
        fields = json.load(handle)
    lists = {name: tuple(fields[name]) for name in ("mounts", "images", "pools")}
    return Policy(**lists, by_digest=bool(fields["by_digest"]), build=bool(fields["build"]))


def answer(policy: Policy, path: str, body: bytes) -> dict[str, Any]:
    """The answer to one call of dockerd's."""
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
    except Exception as error:  # noqa: BLE001  # whatever it is, the request is not done
        return {"Allow": False, "Msg": f"the plugin failed: {type(error).__name__}"}
    return {"Allow": True}


class Handler(BaseHTTPRequestHandler):
    """HTTP as dockerd speaks it, with connections that stay open."""

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
        """Bodies and addresses are nobody's business; refusals are in dockerd's answer."""

    def address_string(self) -> str:
        """A peer on a Unix socket has no address."""
        return "dockerd"


class Server(socketserver.ThreadingUnixStreamServer):
    """A thread for each connection of dockerd's."""

    daemon_threads = True
    # As many as there may be requests of clients at once.
    request_queue_size = 4096


def serve(socket: str, policy: Policy) -> Server:
    """A server that listens."""
    if os.path.exists(socket):
        os.unlink(socket)
    return Server(socket, type("Bound", (Handler,), {"policy": policy}))


def main(arguments: list[str]) -> None:
    """Serve for ever."""
    socket, policy = arguments
    serve(socket, read_policy(policy)).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
