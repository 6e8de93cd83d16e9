# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two ends of a connection, and the copying of bytes between them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

# The longest head, and the size of a block.
LIMIT = 1 << 16


class Stream(asyncio.StreamReader):
    """A reader with a callback for the end of its data, which also runs while nothing is read."""

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
        """Send bytes, and wait while the buffer is full."""
        self.writer.write(data)
        await self.writer.drain()

    def end(self) -> None:
        """Close the sending side."""
        with contextlib.suppress(OSError):
            self.writer.write_eof()

    def abort(self) -> None:
        """Close the connection at once."""
        self.writer.transport.abort()


async def connect(path: str) -> Peer:
    """Connect to a Unix socket."""
    loop = asyncio.get_running_loop()
    reader = Stream(LIMIT, loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _protocol = await loop.create_unix_connection(lambda: protocol, path)
    return Peer(reader, asyncio.StreamWriter(transport, protocol, reader, loop))


async def copy(reader: Stream, target: Peer, size: int) -> None:
    """Pass a number of bytes on.

    :raises EOFError: if the data ends early.
    """
    while size:
        block = await reader.read(min(size, LIMIT))
        if not block:
            raise EOFError
        await target.send(block)
        size -= len(block)


async def copy_to_end(reader: Stream, target: Peer) -> None:
    """Pass all bytes on, and then close the sending side."""
    while block := await reader.read(LIMIT):
        await target.send(block)
    target.end()
