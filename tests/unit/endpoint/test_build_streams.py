# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds on a connection to BuildKit, which clients keep open after a build."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from stockyard.endpoint.build_streams import DATA, END_STREAM, HEADERS, RESET, BuildStreams
from stockyard.guest.security.reader.streams import Peer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
SETTINGS = 4


def frame(kind: int, stream: int, flags: int = 0, content: bytes = b"content") -> bytes:
    length = len(content).to_bytes(3, "big")
    return length + bytes((kind, flags)) + stream.to_bytes(4, "big") + content


class Writer:
    """The writing side of a connection."""

    def __init__(self) -> None:
        self.received = b""

    def write(self, data: bytes) -> None:
        self.received += data

    async def drain(self) -> None:
        """Return at once."""


class Connection:
    """A connection to BuildKit, and the number of builds that run."""

    def __init__(self) -> None:
        self.builds = self.begun = 0
        self.streams = BuildStreams(self.building)
        self.client = self.streams.client(self.peer())
        self.docker = self.streams.docker(self.peer())

    @staticmethod
    def peer() -> Peer:
        return Peer(cast("Any", None), cast("Any", Writer()))

    @asynccontextmanager
    async def building(self) -> AsyncIterator[None]:
        self.builds, self.begun = self.builds + 1, self.begun + 1
        yield
        self.builds -= 1

    async def open(self) -> None:
        await self.client.send(SWITCHED)
        await self.docker.send(PREFACE + frame(SETTINGS, 0))
        await self.client.send(frame(SETTINGS, 0, END_STREAM))


def play(story: Callable[[Connection], Any]) -> None:
    asyncio.run(story(Connection()))


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_build_runs_while_a_call_is_open(size: int) -> None:
    async def story(connection: Connection) -> None:
        async def send(peer: Peer, data: bytes) -> None:
            for start in range(0, len(data), size):
                await peer.send(data[start : start + size])

        await connection.open()
        assert connection.builds == 0
        await send(connection.docker, frame(HEADERS, 1) + frame(DATA, 1, END_STREAM))
        await send(connection.docker, frame(HEADERS, 3))
        await send(connection.client, frame(HEADERS, 1) + frame(HEADERS, 1, END_STREAM))
        assert (connection.builds, connection.begun) == (1, 1)
        await send(connection.client, frame(DATA, 3, content=b"x" * 999))
        assert connection.builds == 1
        await send(connection.client, frame(DATA, 3, END_STREAM))
        assert connection.builds == 0
        await send(connection.docker, frame(HEADERS, 5))
        assert (connection.builds, connection.begun) == (1, 2)
        await send(connection.docker, frame(RESET, 5))
        assert connection.builds == 0
        received = cast("Writer", connection.docker.writer).received
        assert received.startswith(PREFACE + frame(SETTINGS, 0) + frame(HEADERS, 1))

    play(story)


def test_a_build_ends_with_its_connection() -> None:
    async def story(connection: Connection) -> None:
        await connection.open()
        await connection.docker.send(frame(HEADERS, 1))
        assert connection.builds == 1
        await connection.streams.close()
        assert connection.builds == 0

    play(story)


def test_a_connection_that_is_refused_has_no_builds() -> None:
    async def story(connection: Connection) -> None:
        await connection.client.send(b"HTTP/1.1 404 Not Found\r\n\r\n")
        await connection.docker.send(PREFACE + frame(HEADERS, 1))
        assert connection.begun == 0

    play(story)
