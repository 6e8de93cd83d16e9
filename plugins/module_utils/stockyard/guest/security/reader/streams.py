# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both ends of a connection, and what is copied from one to the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

# The longest head, and the size of a block.
LIMIT = 1 << 16


class Stream(asyncio.StreamReader):
    """A reader that tells when its other end sends no more, also while nothing is read."""

    on_eof: Callable[[], None] | None = None

    def feed_eof(self) -> None:
        super().feed_eof()
        if self.on_eof:
            self.on_eof()


class Peer:
    """One end of a connection."""

    def __init__(self, reader: Stream, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send, and wait while too much is on its way."""
        self.writer.write(data)
        await self.writer.drain()

    def end(self) -> None:
        """Say that no more is sent."""
        with contextlib.suppress(OSError):
            self.writer.write_eof()

    def abort(self) -> None:
        """Hang up at once."""
        self.writer.transport.abort()


async def connect(path: str) -> Peer:
    """Connect to a Unix socket."""
    loop = asyncio.get_running_loop()
    reader = Stream(LIMIT, loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _protocol = await loop.create_unix_connection(lambda: protocol, path)
    return Peer(reader, asyncio.StreamWriter(transport, protocol, reader, loop))


async def copy(reader: Stream, target: Peer, size: int) -> None:
    """Pass that many bytes on.

    :raises EOFError: when they end early.
    """
    while size:
        block = await reader.read(min(size, LIMIT))
        if not block:
            raise EOFError
        await target.send(block)
        size -= len(block)


async def copy_to_end(reader: Stream, target: Peer) -> None:
    """Pass all bytes on, and then their end."""
    while block := await reader.read(LIMIT):
        await target.send(block)
    target.end()
