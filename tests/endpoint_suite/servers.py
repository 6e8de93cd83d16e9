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
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stockyard import HostInfo, ImageSpec, SingleSpec, TemplateInfo, TemplateSpec, Yard
from stockyard.model.template import Hardware

URI, OWNER = "qemu:///session", "endpoint-suite"
# The command line of the endpoint.
ENDPOINT = [sys.executable, "-m", "stockyard.cli.main", "endpoint", "serve"]
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
    image=ImageSpec(commands=CONFIGURE, runtime="crun"),
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
    :param is_own: whether it exists for the suite only.
    """

    name: str
    docker_host: str
    identity: str
    version: dict[str, Any] = field(default_factory=dict)
    is_own: bool = False

    def check(self) -> None:
        """Check that a server at a Unix socket still answers."""
        url = urlsplit(self.docker_host)
        if url.scheme == "unix":
            request(Path(url.path), "/version")

    def clean(self) -> None:
        """Delete containers that tests left, which would take the time of later tests. Other
        programs can have containers on a server that is not the suite's own.
        """
        if not self.is_own:
            return
        path = Path(urlsplit(self.docker_host).path)
        with suppress(OSError, http.client.HTTPException):
            for container in request(path, "/containers/json?all=1"):
                request(path, f"/containers/{container['Id']}?force=1&v=1", "DELETE")

    def facts(self) -> dict[str, str]:
        """Return the facts that the results contain."""
        names = ("Version", "ApiVersion", "KernelVersion")
        return {name: str(self.version.get(name, "")) for name in names}


@contextmanager
def bare(work: Path, registry_port: int, count: int = 1) -> Iterator[list[Server]]:
    """Create hosts and yield the dockerd of each, at a forwarded Unix socket.

    :param registry_port: port of the registry on the loopback of this machine.
    """
    with _forking(work) as (yard, template), ExitStack() as stack:
        servers = []
        for number in range(1, count + 1):
            path = stack.enter_context(_socket_path())
            host = yard.hosts.apply(SingleSpec(f"bare-{number}", TEMPLATE.name)).object
            command = tunnel(host, registry_port, "-L", f"{path}:/run/docker.sock")
            process = stack.enter_context(running(command, work / "bare.log"))
            server = answering("bare", path, template.generation, process)
            servers.append(replace(server, is_own=True))
        yield servers


@contextmanager
def endpoint(work: Path, registry_port: int, count: int = 1) -> Iterator[list[Server]]:
    """Run endpoints, each with an empty image host of its own, and yield the endpoints.

    :param registry_port: port of the registry on the loopback of this machine.
    """
    with _forking(work) as (yard, _template), ExitStack() as stack:
        servers = []
        for number in range(1, count + 1):
            path = stack.enter_context(_socket_path())
            name, image_host = f"endpoint-{number}", f"images-{number}"
            host = yard.hosts.apply(SingleSpec(image_host, TEMPLATE.name)).object
            options = ["--hypervisor", URI, "--owner", OWNER, "--name", name]
            options += ["--image-host", image_host]
            options += ["--storage", str(work / "store"), "--pki-dir", str(work / "pki")]
            command = [*ENDPOINT, "--unix", str(path), *options]
            # Pulls need the registry: the tunnel leads there when dockerd answers through it.
            direct = stack.enter_context(_socket_path())
            registry_tunnel = tunnel(host, registry_port, "-L", f"{direct}:/run/docker.sock")
            process = stack.enter_context(running(registry_tunnel, work / "images.log"))
            answering(image_host, direct, "", process)
            process = stack.enter_context(running(command, work / "endpoint.log"))
            server = answering("endpoint", path, source_digest(), process)
            servers.append(replace(server, is_own=True))
        yield servers


def endpoint_exists() -> bool:
    """Return whether this checkout has an endpoint."""
    process = subprocess.run([*ENDPOINT, "--help"], capture_output=True, check=False)
    return process.returncode == 0


@contextmanager
def given(name: str, docker_host: str) -> Iterator[list[Server]]:
    """Yield a server that runs already, at the value of DOCKER_HOST."""
    url = urlsplit(docker_host)
    if url.scheme != "unix":
        yield [Server(name, docker_host, docker_host)]
        return
    yield [answering(name, Path(url.path), docker_host)]


def tunnel(host: HostInfo, registry_port: int, *options: str) -> list[str]:
    """Return the command that leads from a host to the registry.

    :param options: further forwards.
    """
    settings = {
        "BatchMode": "yes",
        "ExitOnForwardFailure": "yes",
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "ServerAliveInterval": "30",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": host.ssh.known_hosts,
    }
    command = ["ssh", "-N", "-F", "/dev/null", "-i", host.ssh.private_key, "-p", str(host.ssh.port)]
    command += [f"-o{key}={value}" for key, value in settings.items()]
    command += ["-R", f"127.0.0.1:{MIRROR}:127.0.0.1:{registry_port}", *options]
    return [*command, f"{host.ssh.user}@{host.ssh.host}"]


def source_digest() -> str:
    """Return the digest of the SDK's sources, which decide how the endpoint behaves."""
    root = Path(__file__).parents[2] / "plugins" / "module_utils" / "stockyard"
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


@contextmanager
def running(command: list[str], log_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for as long as the context lasts."""
    with log_path.open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(WAIT)


def answering(
    name: str, path: Path, identity: str, process: subprocess.Popen[bytes] | None = None
) -> Server:
    """Return the server at a Unix socket when it answers.

    :param process: the program that serves the socket.
    """
    end = time.monotonic() + WAIT
    while True:
        try:
            version = request(path, "/version")
            return Server(name, f"unix://{path}", identity, version)
        except (OSError, http.client.HTTPException, ValueError) as error:
            code = process.poll() if process else None
            if code is not None:
                raise RuntimeError(
                    f"the program of server {name} ended with code {code}"
                ) from error
            if time.monotonic() > end:
                raise RuntimeError(f"server {name} does not answer: {error!r}") from error
            time.sleep(0.5)


def request(path: Path, url: str, method: str = "GET") -> Any:
    """Return the JSON answer to a request at a Unix socket, or ``None`` if it is empty."""
    connection = http.client.HTTPConnection("localhost", timeout=WAIT)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(WAIT)
    try:
        connection.sock.connect(os.fspath(path))
        connection.request(method, url)
        return json.loads(connection.getresponse().read() or b"null")
    finally:
        connection.close()


@contextmanager
def _forking(work: Path) -> Iterator[tuple[Yard, TemplateInfo]]:
    """Yield a yard without hosts, and its template. All hosts are deleted afterwards."""
    with Yard(URI, owner=OWNER, storage=str(work / "store"), pki_dir=str(work / "pki")) as yard:
        yard.teardown()
        template = yard.templates.apply(TEMPLATE).object
        yard.templates.prune()
        try:
            yield yard, template
        finally:
            yard.teardown()


@contextmanager
def _socket_path() -> Iterator[Path]:
    """Yield a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="stockyard-") as folder:
        yield Path(folder) / "docker.sock"
