# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service of an endpoint."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConnectionFailed, InvalidInput, MissingDependency
from ..guest.security.reader.grammar import Refusal
from ..model import naming
from ..model.host import DOCKER_PORT
from ..yard import Yard
from .server import Endpoint
from .server_tls import ServerTls, listen_tls
from .yard_machines import LOOPBACK, YardMachines


@dataclass(frozen=True)
class EndpointSpec:
    """An endpoint, and where it is served.

    :param name: the name of the endpoint.
    :param image_host: the host that holds its images. It must run.
    :param socket: the path of a Unix socket; none if empty.
    :param address: the IP address for mutual TLS; none if empty.
    :param port: the port at that address.
    """

    name: str = "endpoint"
    image_host: str = "images"
    tenant: str = "default"
    socket: str = ""
    address: str = ""
    port: int = DOCKER_PORT

    def __post_init__(self) -> None:
        naming.name("endpoint", self.name)
        naming.name("host", self.image_host)
        naming.name("tenant", self.tenant)
        naming.whole("port", self.port, 1, 65535)
        if self.address:
            naming.address(self.address)
        if not (self.socket or self.address):
            raise InvalidInput(
                "the endpoint is served nowhere.", remedy="name a Unix socket or an address"
            )


def serve(yard: Yard, spec: EndpointSpec) -> None:
    """Serve the Docker API until the process gets SIGTERM or SIGINT.

    :raises ConnectionFailed: if Docker in the image host does not answer.
    """
    try:
        import h11  # noqa: F401  # used for each request
    except ImportError as error:
        raise MissingDependency(
            "the library h11 is not installed.", remedy="pip install h11"
        ) from error
    ctx = yard.context
    machines = YardMachines(ctx, spec.tenant, spec.name, spec.image_host, spec.address or LOOPBACK)
    machines.start_image_host()
    tls = ServerTls(ctx, spec.tenant, spec.name, spec.address) if spec.address else None
    asyncio.run(_serve(Endpoint(machines, ctx.progress), spec, tls))


async def _serve(endpoint: Endpoint, spec: EndpointSpec, tls: ServerTls | None) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await endpoint.start()
    except Refusal as refusal:
        raise ConnectionFailed(
            "Docker in the image host does not answer.", name=endpoint.machines.title
        ) from refusal
    socket = Path(spec.socket).expanduser() if spec.socket else None
    servers: list[asyncio.Server] = []
    try:
        if tls:
            servers.append(await listen_tls(endpoint, spec.address, spec.port, tls.context))
            endpoint.progress(f"serving at tcp://{spec.address}:{spec.port}")
        if socket:
            socket.unlink(missing_ok=True)
            servers.append(await endpoint.listen(socket))
            endpoint.progress(f"serving at unix://{socket}")
        await stop.wait()
    except OSError as error:
        raise ConnectionFailed(
            "the endpoint cannot be served.", name=spec.name, cause=str(error)
        ) from error
    finally:
        for server in servers:
            server.close()
        if socket:
            socket.unlink(missing_ok=True)
        await endpoint.close()
