# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service of an endpoint."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from ..errors import ConnectionFailed, MissingDependency
from ..guest.security.reader.grammar import Refusal
from ..model.endpoint import EndpointSpec
from ..yard import Yard
from .readiness import report_ready
from .server import Endpoint
from .server_tls import ServerTls, listen_tls
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
    machines = YardMachines(ctx, spec.tenant, spec.name, spec.image_host, spec.address or LOOPBACK)
    machines.start_image_host()
    tls = ServerTls(ctx, spec.tenant, spec.name, spec.address) if spec.address else None
    asyncio.run(_serve(Endpoint(machines, ctx.progress, spec.spares), spec, tls))


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
        report_ready()
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
