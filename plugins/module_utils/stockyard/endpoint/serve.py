# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service of an endpoint."""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack
from pathlib import Path

from ..errors import ConnectionFailed, MissingDependency
from ..guest.security.reader.grammar import Refusal
from ..model.endpoint import EndpointSpec
from ..model.endpoint_record import places
from ..paths import expand_user
from ..readiness import report_ready
from ..yard import Yard
from .docker_socket import USUAL_PATHS
from .machines import BoundSocket
from .server import Endpoint
from .server_tls import ServerTls, listen_tls
from .socket_tunnels import GUEST_SOCKET
from .yard_machines import LOOPBACK, YardMachines


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
    machines = YardMachines(
        ctx,
        spec.tenant,
        spec.name,
        spec.image_host,
        spec.address or LOOPBACK,
        _bound_socket(spec) if spec.socket_in_containers else None,
    )
    machines.start_image_host()
    tls = ServerTls(ctx, spec.tenant, spec.name, spec.address) if spec.address else None
    with ExitStack() as stack:
        sockets: list[Path] = []
        if spec.socket:
            sockets.append(expand_user(spec.socket))
        if spec.socket_in_containers:
            sockets.append(stack.enter_context(machines.tunnels.place()))
        asyncio.run(_serve(Endpoint(machines, ctx.progress, spec.spares), spec, tls, sockets))


def _bound_socket(spec: EndpointSpec) -> BoundSocket:
    """Return the socket that containers can bind. Clients name the one that they use themselves."""
    paths = {str(expand_user(spec.socket).absolute())} if spec.socket else set()
    return BoundSocket(USUAL_PATHS | paths, GUEST_SOCKET)


async def _serve(
    endpoint: Endpoint, spec: EndpointSpec, tls: ServerTls | None, sockets: list[Path]
) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await endpoint.start()
    except Refusal as refusal:
        raise ConnectionFailed(
            "Docker in the image host does not answer.", name=endpoint.machines.title
        ) from refusal
    servers: list[asyncio.Server] = []
    try:
        if tls:
            servers.append(await listen_tls(endpoint, spec.address, spec.port, tls.context))
        servers += [await endpoint.listen(socket) for socket in sockets]
        for place in places(spec.socket, spec.address, spec.port):
            endpoint.progress(f"serving at {place}")
        report_ready()
        await stop.wait()
    except OSError as error:
        raise ConnectionFailed(
            "the endpoint cannot be served.", name=spec.name, cause=str(error)
        ) from error
    finally:
        for server in servers:
            server.close()
        for socket in sockets:
            socket.unlink(missing_ok=True)
        await endpoint.close()
