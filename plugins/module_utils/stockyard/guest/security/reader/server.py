# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server: each connection of a client has a separate connection to dockerd, and no byte passes
without a check.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import sys
from http import HTTPStatus

from .exchange import LINGER, Exchange
from .grammar import HEAD_END, LINE_END, Refusal, parse_request
from .streams import LIMIT, Peer, Stream, connect

# systemd's first socket (sd_listen_fds(3)).
LISTENER = 3
BACKLOG = 4096
# More than the TLS front accepts, so that users inside the host can always connect.
MAX_CONNECTIONS = 4096
# Seconds between two requests, and for a head after its first byte.
IDLE, HEAD = 43200.0, 60.0
NOT_RUNNING = (
    "Docker on this host does not run or is being started. Try again. "
    "If it does not start, read its journal."
)
FULL = f"This host has {MAX_CONNECTIONS} open connections, which is its limit. Close some of them."


class Reader:
    """The reader: checks requests and passes them on.

    :param docker: path of dockerd's own socket.
    """

    def __init__(self, docker: str) -> None:
        self.docker = docker
        # asyncio itself keeps no reference to a task whose connection is lost.
        self.clients: set[asyncio.Task[None] | None] = set()

    async def serve(self, client: Peer) -> None:
        """Serve one client until either end hangs up."""
        task = asyncio.current_task()
        self.clients.add(task)
        try:
            if len(self.clients) > MAX_CONNECTIONS:
                raise Refusal(FULL, HTTPStatus.SERVICE_UNAVAILABLE)
            await self._requests(client)
        except Refusal as refusal:
            await _refuse(client, refusal)
        except (OSError, EOFError, TimeoutError):
            pass  # the client disconnected, or is too slow
        finally:
            self.clients.discard(task)
            client.writer.close()

    async def _requests(self, client: Peer) -> None:
        docker: Peer | None = None
        try:
            while raw := await _read_head(client.reader):
                request = parse_request(raw)
                if docker is None or docker.reader.at_eof():
                    docker = await self._connect(docker)
                if not await Exchange(client, docker, request).run():
                    await _hang_up(client)
                    return
        finally:
            if docker:
                docker.abort()

    async def _connect(self, previous: Peer | None) -> Peer:
        if previous:
            previous.abort()
        try:
            return await connect(self.docker)
        except OSError as error:
            raise Refusal(NOT_RUNNING, HTTPStatus.SERVICE_UNAVAILABLE) from error


async def _read_head(reader: Stream) -> bytes:
    """Return the next head, empty at the end of the connection.

    :raises Refusal: if the head is too long.
    """
    try:
        async with asyncio.timeout(IDLE) as patience:
            first_byte = await reader.read(1)
            if not first_byte:
                return b""
            patience.reschedule(asyncio.get_running_loop().time() + HEAD)
            return first_byte + await reader.readuntil(HEAD_END)
    except asyncio.LimitOverrunError as error:
        raise Refusal(
            f"The head of the request is longer than {LIMIT} bytes.",
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        ) from error


async def _refuse(client: Peer, refusal: Refusal) -> None:
    """Send the refusal in dockerd's format and hang up, because the start of the next request is
    unknown.
    """
    body = json.dumps({"message": str(refusal)}).encode() + b"\n"
    status = HTTPStatus(refusal.status)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    with contextlib.suppress(OSError):
        await client.send(LINE_END.join(map(str.encode, lines)) + HEAD_END + body)
        await _hang_up(client)


async def _hang_up(client: Peer) -> None:
    """Close a connection after the client has read its answer: if unread bytes remain at the close,
    the client loses the answer.
    """
    client.end()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(LINGER):
            while await client.reader.read(LIMIT):
                pass


async def listen(listener: socket.socket, docker: str) -> asyncio.Server:
    """Serve a listening socket.

    :param docker: path of dockerd's own socket.
    """
    loop, request_reader = asyncio.get_running_loop(), Reader(docker)

    def accept() -> asyncio.StreamReaderProtocol:
        reader = Stream(LIMIT, loop)
        return asyncio.StreamReaderProtocol(
            reader, lambda _reader, writer: request_reader.serve(Peer(reader, writer)), loop=loop
        )

    return await loop.create_unix_server(accept, sock=listener, backlog=BACKLOG)


async def _main(docker: str) -> None:
    server = await listen(socket.socket(fileno=LISTENER), docker)
    # The garbage collector ignores permanent objects, so that their pages stay shared with the
    # template.
    gc.collect()
    gc.freeze()
    async with server:
        await server.serve_forever()


def main(arguments: list[str]) -> None:
    """Serve for ever."""
    (docker,) = arguments
    asyncio.run(_main(docker))


if __name__ == "__main__":
    main(sys.argv[1:])
