# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exchange of one request and its answer between a client and dockerd."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus

from .grammar import (
    HEAD_END,
    LINE_END,
    NO_BODY,
    SWITCHING,
    Answer,
    Body,
    Refusal,
    Request,
    parse_answer,
    parse_chunk_size,
)
from .streams import Peer, Stream, copy, copy_to_end

# Seconds to wait for an end of stream that is due.
LINGER = 5.0
BROKEN = "Docker on this host ended while it answered. Try again; if it stays so, read its journal."


class Exchange:
    """One request and its answer."""

    def __init__(self, client: Peer, docker: Peer, request: Request) -> None:
        self.client = client
        self.docker = docker
        self.request = request
        self.sending: asyncio.Task[None] | None = None

    async def run(self) -> bool:
        """Pass the request and its answer on. Return whether another request may follow.

        :raises Refusal: if the body is badly framed, or dockerd ends without an answer.
        """
        self.docker.writer.write(self.request.head)
        if self.request.body != NO_BODY:
            self.sending = asyncio.create_task(self._send_body())
            self.sending.add_done_callback(self._sent)
        else:
            self._watch()
        try:
            answer = await self._head()
            if answer.hijacked:
                return await self._tunnel()
            await _copy_body(self.docker.reader, self.client, answer.body)
            return await self._body_is_sent() and not (answer.close or self.request.close)
        finally:
            self.client.reader.on_eof = None
            if self.sending:
                self.sending.cancel()

    async def _head(self) -> Answer:
        """Pass heads of answers on, up to the final head, which is returned."""
        while True:
            try:
                raw = await self.docker.reader.readuntil(HEAD_END)
                answer = parse_answer(raw, self.request.method)
            except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
                raise self._failure() from error
            if answer.status == SWITCHING and not self.request.upgrade:
                raise Refusal(BROKEN, HTTPStatus.BAD_GATEWAY)
            await self.client.send(raw)
            if answer.status >= HTTPStatus.OK or answer.hijacked:
                return answer

    def _failure(self) -> Exception:
        """Return the error for a missing answer: the client's if its body failed, or dockerd's."""
        if self.sending and self.sending.done() and not self.sending.cancelled():
            error = self.sending.exception()
            if isinstance(error, Exception):
                return error
        return Refusal(BROKEN, HTTPStatus.BAD_GATEWAY)

    async def _send_body(self) -> None:
        reader, docker = self.client.reader, self.docker
        if not self.request.body.chunked:
            await copy(reader, docker, self.request.body.length or 0)
            return
        while True:
            line = await _read_line(reader)
            size = parse_chunk_size(line)
            docker.writer.write(line)
            await copy(reader, docker, size)
            if await reader.readexactly(len(LINE_END)) != LINE_END:
                raise Refusal(
                    "A chunk of the request does not end where it says, or trailers follow. Send "
                    "neither."
                )
            await docker.send(LINE_END)
            if not size:
                return

    def _sent(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        if task.exception():
            # dockerd must not treat a partial body as a complete one.
            self.docker.abort()
        else:
            self._watch()

    def _watch(self) -> None:
        """Tell dockerd when the client ends, so that it does not work without a client."""
        if self.client.reader.at_eof():
            self.docker.end()
        else:
            self.client.reader.on_eof = self._ended

    def _ended(self) -> None:
        if self.client.reader.at_eof():
            self.docker.end()

    async def _body_is_sent(self) -> bool:
        """Return whether the whole body was sent. dockerd can answer earlier; the remaining bytes
        of the body must not be read as a request.
        """
        if self.sending:
            with contextlib.suppress(Refusal, OSError, EOFError, TimeoutError):
                await asyncio.wait_for(self.sending, LINGER)
                return True
            return False
        return True

    async def _tunnel(self) -> bool:
        """Pass bytes on in both directions until both ends close.

        Return false, because no request can follow.
        """
        if not await self._body_is_sent():
            return False
        self.client.reader.on_eof = None
        upload = asyncio.create_task(copy_to_end(self.client.reader, self.docker))
        try:
            await copy_to_end(self.docker.reader, self.client)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(upload, LINGER)
        finally:
            upload.cancel()
        return False


async def _read_line(reader: Stream) -> bytes:
    try:
        return await reader.readuntil(LINE_END)
    except asyncio.LimitOverrunError as error:
        raise Refusal(
            "A chunk of the request has no plain size. Send chunks without extensions."
        ) from error


async def _copy_body(reader: Stream, client: Peer, body: Body) -> None:
    """Pass the body of an answer on, with the same chunks as dockerd's."""
    if not body.chunked:
        await (
            copy_to_end(reader, client)
            if body.length is None
            else copy(reader, client, body.length)
        )
        return
    while True:
        line = await reader.readuntil(LINE_END)
        size = int(line.partition(b";")[0], 16)
        client.writer.write(line)
        if not size:
            break
        await copy(reader, client, size + len(LINE_END))
    while line != LINE_END:
        line = await reader.readuntil(LINE_END)
        client.writer.write(line)
    await client.writer.drain()
