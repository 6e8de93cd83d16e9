# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers that the suite measures: a bare dockerd in a host, the endpoint, and any other."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stockyard import HostSpec, ImageSpec, SingleSpec, TemplateSpec, Yard
from stockyard.model.template import Hardware

OWNER = "endpoint-suite"
# The port in a guest that leads to the registry.
MIRROR = 5000
# Docker's own default log options, which tests compare, and the mirror.
DAEMON_JSON = f"""\
import json
path = "/etc/docker/daemon.json"
with open(path) as source:
    keys = json.load(source)
del keys["log-opts"]
keys["registry-mirrors"] = ["http://127.0.0.1:{MIRROR}"]
with open(path, "w") as target:
    json.dump(keys, target)
"""
CONFIGURE = (f"python3 -c {shlex.quote(DAEMON_JSON)}", "systemctl restart docker.service")
TEMPLATE = TemplateSpec(
    "endpoint-suite",
    image=ImageSpec(commands=CONFIGURE),
    # Tests of CPU sets need two CPUs.
    hardware=Hardware(vcpus=2, memory_mib=1536),
)
WAIT = 120.0


@dataclass(frozen=True)
class Server:
    """A server of the Docker API.

    :param name: its name in the results.
    :param docker_host: the value of DOCKER_HOST.
    :param identity: changes if results of an earlier run are no longer those of this server.
    :param version: its answer to GET /version.
    """

    name: str
    docker_host: str
    identity: str
    version: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Check that a server at a unix socket still answers."""
        url = urlsplit(self.docker_host)
        if url.scheme == "unix":
            request(Path(url.path), "/version")

    def facts(self) -> dict[str, str]:
        """Return the facts that the results contain."""
        names = ("Version", "ApiVersion", "KernelVersion")
        return {name: str(self.version.get(name, "")) for name in names}


@contextmanager
def bare(work: Path, registry_port: int) -> Iterator[Server]:
    """Create a host and yield its dockerd, through a forwarded unix socket as the endpoint has.

    :param registry_port: port of the registry on the loopback of this machine.
    """
    with (
        Yard(
            "qemu:///session", owner=OWNER, storage=str(work / "store"), pki_dir=str(work / "pki")
        ) as yard,
        _socket_path() as path,
    ):
        yard.teardown()
        template = yard.templates.apply(TEMPLATE).objects[-1]
        yard.templates.prune()
        try:
            host = yard.hosts.apply(SingleSpec("bare", TEMPLATE.name, host=HostSpec())).object
            way = host.ssh
            command = [
                "ssh",
                "-N",
                *("-F", "/dev/null"),
                *(
                    "-o",
                    "BatchMode=yes",
                    "-o",
                    "IdentitiesOnly=yes",
                    "-o",
                    "ServerAliveInterval=30",
                ),
                *("-o", f"UserKnownHostsFile={way.known_hosts}", "-o", "ExitOnForwardFailure=yes"),
                *("-i", str(way.private_key), "-p", str(way.port)),
                *("-L", f"{path}:/run/docker.sock"),
                *("-R", f"127.0.0.1:{MIRROR}:127.0.0.1:{registry_port}"),
                f"{way.user}@{way.host}",
            ]
            with running(command, work / "bare.log"):
                yield _answering("bare", path, template.generation)
        finally:
            yard.teardown()


@contextmanager
def endpoint(work: Path, registry_port: int) -> Iterator[Server]:
    """Run an endpoint on a unix socket and yield it.

    :param registry_port: port of the registry on the loopback of this machine.
    """
    with _socket_path() as path:
        command = [*ENDPOINT, "--unix", str(path)]
        with running(command, work / "endpoint.log"):
            yield _answering("endpoint", path, source_digest())


# The command line of the endpoint. Its first words must be enough to ask for --help.
ENDPOINT = [sys.executable, "-m", "stockyard.cli.main", "endpoint", "serve"]


def endpoint_exists() -> bool:
    """Return whether this checkout has an endpoint."""
    process = subprocess.run([*ENDPOINT, "--help"], capture_output=True, check=False)
    return process.returncode == 0


@contextmanager
def given(name: str, docker_host: str) -> Iterator[Server]:
    """Yield a server that runs already, at the value of DOCKER_HOST."""
    url = urlsplit(docker_host)
    if url.scheme != "unix":
        yield Server(name, docker_host, docker_host)
        return
    yield _answering(name, Path(url.path), docker_host)


def source_digest() -> str:
    """Return the digest of the SDK's sources, which decide how the endpoint behaves."""
    root = Path(__file__).parents[2] / "plugins" / "module_utils" / "stockyard"
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


@contextmanager
def running(command: list[str], log_path: Path) -> Iterator[None]:
    """Run a program for as long as the context lasts."""
    with log_path.open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(WAIT)


def _answering(name: str, path: Path, identity: str) -> Server:
    """Return the server at a unix socket when it answers."""
    end = time.monotonic() + WAIT
    while True:
        try:
            version = request(path, "/version")
            return Server(name, f"unix://{path}", identity, version)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if time.monotonic() > end:
                raise RuntimeError(f"server {name} does not answer: {error!r}") from error
            time.sleep(0.5)


def request(path: Path, url: str) -> dict[str, Any]:
    """Return the JSON answer to a GET request at a unix socket."""
    connection = http.client.HTTPConnection("localhost", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(30)
    try:
        connection.sock.connect(os.fspath(path))
        connection.request("GET", url)
        answer: dict[str, Any] = json.load(connection.getresponse())
        return answer
    finally:
        connection.close()


@contextmanager
def _socket_path() -> Iterator[Path]:
    """Yield a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="stockyard-") as folder:
        yield Path(folder) / "docker.sock"
