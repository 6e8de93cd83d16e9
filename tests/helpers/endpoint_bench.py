# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An endpoint over a real socket, with stand-ins for dockerd in its machines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stockyard.endpoint.server import Endpoint
from stockyard.guest.security.reader.streams import Peer, connect
from tests.helpers.fake_dockerd import FakeMachines

BUSYBOX = {"Image": "busybox"}


@dataclass
class Answered:
    """An answer as a client reads it."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])


@dataclass
class Bench:
    """A running endpoint and its machines."""

    socket: Path
    machines: FakeMachines
    endpoint: Endpoint
    lines: list[str] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)

    async def call(self, method: str, path: str, body: Any = None) -> Answered:
        return await call(await self.open(), method, path, body)

    async def open(self) -> Peer:
        """Open a connection, which ends with the story."""
        self.peers.append(await connect(str(self.socket)))
        return self.peers[-1]

    async def create(self, name: str = "", config: dict[str, Any] | None = None) -> Answered:
        query = f"?name={name}" if name else ""
        return await self.call("POST", f"/v1.41/containers/create{query}", config or BUSYBOX)

    async def settled(self, count: int) -> None:
        """Wait until there are as many machines as expected."""
        async with asyncio.timeout(5):
            while len(self.machines.running) != count:
                await asyncio.sleep(0.01)


async def call(peer: Peer, method: str, path: str, body: Any = None) -> Answered:
    """Send a call on an open connection and return the answer."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    await peer.send(head.encode() + content)
    answer = await read_head(peer)
    if method != "HEAD":
        answer.body = await peer.reader.readexactly(int(answer.headers.get("content-length", 0)))
    return answer


async def read_head(peer: Peer) -> Answered:
    first, *lines = (await peer.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
    return Answered(int(first.split()[1]), headers)


def play(
    tmp_path: Path,
    story: Callable[[Bench], Awaitable[None]],
    *images: str,
    spares: int = 0,
    failures: Iterable[Exception] = (),
) -> None:
    """Run a story against an endpoint.

    :param failures: raised by the first forks.
    """

    async def run() -> None:
        machines = FakeMachines(tmp_path, images or ("busybox",))
        machines.failures += failures
        await machines.host.start()
        lines: list[str] = []
        endpoint = Endpoint(machines, lines.append, spares)
        endpoint.spares.calm = endpoint.spares.changed = 0.3
        await endpoint.start()
        server = await endpoint.listen(tmp_path / "endpoint.sock")
        bench = Bench(tmp_path / "endpoint.sock", machines, endpoint, lines)
        try:
            async with asyncio.timeout(20):
                await story(bench)
        finally:
            for peer in bench.peers:
                peer.abort()
            server.close()
            await endpoint.close()
            await asyncio.sleep(0.05)

    asyncio.run(run())
