# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stockyard.clock import Deadline
from stockyard.service import projects
from stockyard.service.client import _UnixConnection
from stockyard.service.projects import Project, Projects
from stockyard.web import Answer, Bounds

PATIENCE = 60.0


class Running:
    """A daemon in a process, at a Unix socket and a loopback address."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri = uri
        self.folder = folder
        self.socket = folder / "run" / "serve.sock"
        self.tokens = folder / "projects.json"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.process: subprocess.Popen[str] | None = None
        self.log = folder / "serve.log"

    def start(self, *options: str) -> None:
        """Start the daemon, and wait until it serves."""
        argv = [sys.executable, "-m", "stockyard.cli.main", "serve", "--unix", str(self.socket)]
        argv += ["--listen", f"127.0.0.1:{self.port}", "--interval", "1s"]
        argv += ["--hypervisor", self.uri, "--pki-dir", str(self.folder / "pki")]
        argv += ["--projects", str(self.tokens)] if self.tokens.exists() else []
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*argv, *options],
                stderr=log,
                text=True,
                cwd=self.folder,
                env={**os.environ, "STOCKYARD_YARD": "-"},
            )
        self.wait(lambda: self.request("/health") is not None)

    @property
    def lines(self) -> list[str]:
        """Return the log of all daemons."""
        return self.log.read_text().splitlines()

    def request(self, path: str, method: str = "GET", **headers: str) -> Answer | None:
        """Send a request to the socket; return nothing if no daemon answers."""
        bounds = Bounds(Deadline(PATIENCE), 1 << 22)
        try:
            return _UnixConnection(str(self.socket), bounds).exchange(
                method, path, headers={name.replace("_", "-"): headers[name] for name in headers}
            )
        except OSError:
            return None

    def get(self, path: str) -> Answer:
        """Return the answer to a request that the daemon must answer."""
        answer = self.request(path)
        assert answer is not None
        return answer

    def raw(self, data: bytes) -> bytes:
        """Send bytes to the loopback address, and return the whole answer."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as client:
            client.sendall(data)
            return b"".join(iter(lambda: client.recv(65536), b""))

    def wait(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.lines
            assert self.process is None or self.process.poll() is None, self.lines
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill the daemon if it runs."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def end(self, number: int) -> int:
        """Send a signal to the daemon, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def add(daemon: Running, *items: Project) -> list[str]:
    """Write the projects with new tokens; return the tokens."""
    tokens = [projects.new_token() for _item in items]
    changed = [
        Project(
            item.name,
            projects.digest_of(token),
            fleets=item.fleets,
            max_leases=item.max_leases,
            report=item.report,
        )
        for item, token in zip(items, tokens, strict=True)
    ]
    projects.write(daemon.tokens, Projects(tuple(changed)))
    return tokens
