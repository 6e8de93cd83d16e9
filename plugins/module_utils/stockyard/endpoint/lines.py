# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines to Docker in machines: kept open between exchanges, and used for small exchanges."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from http import HTTPStatus
from typing import Any

from ..guest.security.reader.grammar import (
    CHUNK,
    HEAD_END,
    LINE_END,
    SWITCHING,
    Answer,
    Body,
    Refusal,
    parse_answer,
)
from ..guest.security.reader.streams import LIMIT, Peer
from .answer_heads import check_head
from .calls import JSON, Reply, parse_json
from .events import is_sound
from .machines import IMAGE_HOST, Machines

# The longest answer that the endpoint reads completely.
LONGEST_ANSWER = 1 << 26
# The longest event, in bytes.
LONGEST_EVENT = 1 << 17
# Seconds for an answer: to a call about many machines, of which one can be silent; to most calls;
# and to calls that work on whole images, layers or file systems.
SHORT, PATIENCE, LONG = 15.0, 120.0, 1800.0
# Idle lines that are kept open to one machine.
KEPT = 4


class Lines:
    """The lines to the machines of an endpoint."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        # Seconds for the answer to most calls.
        self.patience = PATIENCE
        self._idle: dict[str, list[Peer]] = {}
        # The lines that events come from.
        self._streams: dict[str, set[Peer]] = {}

    async def take(self, machine: str) -> Peer:
        """Return a line that no other exchange uses.

        :raises Refusal: if Docker in the machine does not answer.
        """
        idle = self._idle.get(machine, [])
        while idle:
            peer = idle.pop()
            if not peer.reader.at_eof() and not peer.writer.is_closing():
                return peer
            peer.abort()
        try:
            return await self.machines.connect(machine)
        except OSError as error:
            raise Refusal(
                "Docker in the machine of the container does not answer. Try again.",
                HTTPStatus.SERVICE_UNAVAILABLE,
            ) from error

    async def open(self, machine: str, count: int) -> None:
        """Open lines for later exchanges.

        :raises Refusal: if Docker in the machine does not answer.
        """
        for peer in [await self.take(machine) for _number in range(count)]:
            self.give(machine, peer)

    def give(self, machine: str, peer: Peer) -> None:
        """Keep a line whose exchange is complete."""
        idle = self._idle.setdefault(machine, [])
        if len(idle) < KEPT:
            idle.append(peer)
        else:
            peer.abort()

    def forget(self, machine: str) -> None:
        """Close the idle lines of a machine that ends, and end its events."""
        for peer in (*self._idle.pop(machine, []), *self._streams.pop(machine, ())):
            peer.abort()

    def close(self) -> None:
        """Close all idle lines."""
        for machine in [*self._idle, *self._streams]:
            self.forget(machine)

    async def ask(
        self,
        machine: str,
        method: str,
        path: str,
        body: Any = None,
        limit: int = LONGEST_ANSWER,
        patience: float = 0.0,
    ) -> Reply:
        """Return the complete answer to one call.

        :param body: JSON, or bytes as they are.
        :param patience: seconds for the answer; those for most calls if 0.
        :raises Refusal: if Docker in the machine does not answer.
        """
        patience = patience or self.patience
        peer = await self.take(machine)
        complete = False
        timeout = asyncio.timeout(patience)
        try:
            async with timeout:
                answer, headers = await send_call(peer, method, path, body)
                blocks = [block async for block in payload(peer, answer.body, limit)]
            complete = not answer.close and not answer.hijacked
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            if timeout.expired():
                raise silence(machine, patience) from error
            raise Refusal(
                "Docker in the machine of the container ended while it answered. Try again.",
                HTTPStatus.BAD_GATEWAY,
            ) from error
        finally:
            if complete:
                self.give(machine, peer)
            else:
                peer.abort()
        return Reply(answer.status, b"".join(blocks), headers.get("content-type", JSON))

    async def events(
        self, machine: str, opened: Callable[[], None] = lambda: None
    ) -> AsyncIterator[dict[str, Any]]:
        """Return the events of Docker in a machine, until the line ends.

        :param opened: called when no later event will be missed.
        """
        peer = await self.take(machine)
        self._streams.setdefault(machine, set()).add(peer)
        try:
            async with asyncio.timeout(PATIENCE):
                answer, _headers = await send_call(peer, "GET", "/events")
            opened()
            partial_line = b""
            async for block in payload(peer, answer.body, None):
                *lines, partial_line = (partial_line + block).split(b"\n")
                for line in lines:
                    with contextlib.suppress(ValueError, RecursionError):
                        if is_sound(event := parse_json(line)):
                            yield event
                if len(partial_line) > LONGEST_EVENT:
                    return
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            return
        finally:
            self._streams.get(machine, set()).discard(peer)
            peer.abort()


def silence(machine: str, patience: float) -> Refusal:
    """Return the refusal of a call that Docker in a machine did not answer.

    :param patience: the seconds that it had.
    """
    subject, remedy = f"the machine {machine}", "delete this host, with its containers"
    if machine == IMAGE_HOST:
        subject, remedy = f"the {machine}", "restart this host"
    return Refusal(
        f"Docker in {subject} did not answer within {patience:.0f} seconds. Try again. If Docker "
        f"stays silent, {remedy}.",
        HTTPStatus.GATEWAY_TIMEOUT,
    )


async def send_call(
    peer: Peer, method: str, path: str, body: Any = None
) -> tuple[Answer, dict[str, str]]:
    """Send a call; return the head of the answer and its headers."""
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: docker"]
    if content is not None:
        lines += [f"Content-Type: {JSON}", f"Content-Length: {len(content)}"]
    elif method != "GET":
        lines.append("Content-Length: 0")
    await peer.send(LINE_END.join(map(str.encode, lines)) + HEAD_END + (content or b""))
    return await read_answer(peer, method)


async def read_answer(peer: Peer, method: str) -> tuple[Answer, dict[str, str]]:
    """Return the head of the next answer and its headers."""
    while True:
        raw = await peer.reader.readuntil(HEAD_END)
        check_head(raw)
        answer = parse_answer(raw, method.encode())
        if answer.status >= HTTPStatus.OK or answer.status == SWITCHING:
            return answer, _headers(raw)


def _headers(raw: bytes) -> dict[str, str]:
    fields = (line.partition(b":") for line in raw[: -len(HEAD_END)].split(LINE_END)[1:])
    return {
        name.decode("latin-1").lower(): value.strip().decode("latin-1")
        for name, _colon, value in fields
    }


async def payload(peer: Peer, body: Body, limit: int | None) -> AsyncGenerator[bytes, None]:
    """Return the content of a body, without its framing.

    :param limit: the largest number of bytes; unlimited if ``None``.
    :raises ValueError: if the body is longer.
    :raises EOFError: if the body ends early.
    """
    total = 0
    async for block in _blocks(peer, body):
        total += len(block)
        if limit is not None and total > limit:
            raise ValueError(f"the body is longer than {limit} bytes")
        yield block


async def _blocks(peer: Peer, body: Body) -> AsyncIterator[bytes]:
    reader = peer.reader
    if not body.chunked and body.length is None:
        while block := await reader.read(LIMIT):
            yield block
        return
    if not body.chunked:
        async for block in _exactly(peer, body.length or 0):
            yield block
        return
    while size := _chunk_size(await reader.readuntil(LINE_END)):
        async for block in _exactly(peer, size):
            yield block
        await reader.readexactly(len(LINE_END))
    while await reader.readuntil(LINE_END) != LINE_END:
        pass


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip() + LINE_END
    if not CHUNK.fullmatch(digits):
        raise ValueError("a chunk has no plain size")
    return int(digits, 16)


async def _exactly(peer: Peer, size: int) -> AsyncIterator[bytes]:
    while size:
        block = await peer.reader.read(min(size, LIMIT))
        if not block:
            raise EOFError
        size -= len(block)
        yield block
