# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds on a connection to BuildKit. Clients such as compose keep the connection open after a
build, so a build is a call in it: a stream of HTTP/2.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from ..guest.security.reader.streams import Peer

# The start of a client's bytes, and the head of a frame.
PREFACE, HEAD = 24, 9
# Types of frames, and the flag of the last frame of a stream in one direction.
DATA, HEADERS, RESET = 0, 1, 3
END_STREAM = 1


class BuildStreams:
    """The calls that are open on one connection.

    :param building: the context in which builds run.
    """

    def __init__(self, building: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        self._building = building
        self._stack = AsyncExitStack()
        self._upgraded = False
        self._is_building = False
        self._open: set[int] = set()
        self._sent, self._received = _Frames(PREFACE), _Frames(0)

    def client(self, peer: Peer) -> Peer:
        """Return the client, with its answers observed."""
        return ObservedPeer(peer, self._answered)

    def docker(self, peer: Peer) -> Peer:
        """Return the line to Docker, with the requests observed."""
        return ObservedPeer(peer, self._requested)

    async def close(self) -> None:
        """Note that the connection ended."""
        await self._stack.aclose()

    async def _requested(self, data: bytes) -> None:
        if not self._upgraded:
            return
        for kind, _flags, stream in self._sent.feed(data):
            if kind == HEADERS:
                self._open.add(stream)
            elif kind == RESET:
                self._open.discard(stream)
        await self._update()

    async def _answered(self, data: bytes) -> None:
        if not self._upgraded:
            # The head of the answer comes alone.
            self._upgraded = data.startswith(b"HTTP/1.1 101 ")
            return
        for kind, flags, stream in self._received.feed(data):
            if kind == RESET or (kind in (DATA, HEADERS) and flags & END_STREAM):
                self._open.discard(stream)
        await self._update()

    async def _update(self) -> None:
        if self._open and not self._is_building:
            self._is_building = True
            await self._stack.enter_async_context(self._building())
        elif not self._open and self._is_building:
            self._is_building = False
            await self._stack.aclose()


class ObservedPeer(Peer):
    """One end of a connection, whose bytes are shown to a function before they are sent."""

    def __init__(self, peer: Peer, observe: Callable[[bytes], Awaitable[None]]) -> None:
        super().__init__(peer.reader, peer.writer)
        self._peer = peer
        self._observe = observe

    async def send(self, data: bytes) -> None:
        await self._observe(data)
        await self._peer.send(data)


class _Frames:
    """The frames in one direction.

    :param skipped: the number of bytes before the first frame.
    """

    def __init__(self, skipped: int) -> None:
        self._skipped = skipped
        self._head = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, int]]:
        """Return type, flags and stream of each frame whose head ends in these bytes."""
        while data:
            length = min(self._skipped, len(data))
            self._skipped -= length
            data = data[length:]
            length = HEAD - len(self._head)
            self._head, data = self._head + data[:length], data[length:]
            if len(self._head) == HEAD:
                self._skipped = int.from_bytes(self._head[:3], "big")
                stream = int.from_bytes(self._head[5:], "big")
                yield self._head[3], self._head[4], stream
                self._head = b""
