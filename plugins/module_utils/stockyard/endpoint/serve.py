# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service of an endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

from ..errors import ConnectionFailed, MissingDependency
from ..guest.security.reader.grammar import Refusal
from ..yard import Yard
from .server import Endpoint
from .yard_machines import YardMachines


def serve(yard: Yard, socket: Path, name: str, image_host: str, tenant: str = "default") -> None:
    """Serve the Docker API on a Unix socket until the process gets SIGTERM or SIGINT.

    :param name: the name of the endpoint.
    :param image_host: the host that holds its images. It must run.
    :raises ConnectionFailed: if Docker in the image host does not answer.
    """
    try:
        import h11  # noqa: F401  # used for each request
    except ImportError as error:
        raise MissingDependency(
            "the library h11 is not installed.", remedy="pip install h11"
        ) from error
    yard.hosts.get(image_host, tenant)
    machines = YardMachines(yard.context, tenant, name, image_host)
    asyncio.run(_serve(Endpoint(machines, yard.context.progress), socket))


async def _serve(endpoint: Endpoint, socket: Path) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await endpoint.start()
    except Refusal as refusal:
        raise ConnectionFailed(
            "Docker in the image host does not answer.", name=endpoint.machines.title
        ) from refusal
    socket.unlink(missing_ok=True)
    server = await endpoint.listen(socket)
    endpoint.progress(f"serving at unix://{socket}")
    try:
        await stop.wait()
    finally:
        server.close()
        with contextlib.suppress(OSError):
            socket.unlink()
        await endpoint.close()
