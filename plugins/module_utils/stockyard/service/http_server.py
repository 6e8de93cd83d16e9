# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small HTTP server with limits for everything that a client can send or hold.

h11 parses. Each connection carries one request. A function answers requests in a thread, because
the SDK blocks.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h11

LONGEST_HEAD = 1 << 14
LONGEST_BODY = 1 << 16
BLOCK = 1 << 14
# Seconds in which a request must be complete, and in which a client must read its answer.
PATIENCE = 10.0
MOST_CONNECTIONS = 256
# Of these, the most that one user of this machine can have, if users are known.
MOST_OF_USER = 192
JSON = "application/json"


@dataclass(frozen=True)
class HttpRequest:
    """One request.

    :param path: the path without a query.
    :param headers: the last value of each header, by its name in lower case.
    :param cancelled: an event that is set when the client closes the connection.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class HttpAnswer:
    """One answer.

    :param kind: the type of the body.
    :param headers: further headers.
    """

    status: int
    body: bytes
    kind: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[HttpRequest], Awaitable[HttpAnswer]]
# Returns the user of the addresses of a client and of this server.
UserOf = Callable[[Any, Any], str]


class BadRequest(Exception):
    """A request that is refused without an operation."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def answer_json(status: int, value: Any) -> HttpAnswer:
    """Return an answer with a JSON body."""
    return HttpAnswer(status, json.dumps(value).encode() + b"\n")


def answer_error(status: int, message: str, **facts: str) -> HttpAnswer:
    """Return an error as JSON."""
    return answer_json(status, {"error": {"message": message, **facts}})


def answer_refusal(error: BadRequest) -> HttpAnswer:
    """Return the answer to a refused request."""
    answer = answer_error(error.status, str(error))
    if error.status == HTTPStatus.UNAUTHORIZED:
        return replace(answer, headers=(("WWW-Authenticate", "Bearer"),))
    return answer


class HttpServer:
    """The server of one listening socket.

    :param handler: answers a complete request.
    :param user_of: returns the user at the other end of a connection; ``None`` if all connections
        are of one user.
    """

    def __init__(self, handler: Handler, user_of: UserOf | None = None) -> None:
        self._handler = handler
        self._user_of = user_of
        self._users: Counter[str] = Counter()

    async def serve_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the request of one connection, and close it."""
        user = self._user(writer)
        self._users[user] += 1
        try:
            if refusal := self._refuse(user):
                answer = answer_error(HTTPStatus.SERVICE_UNAVAILABLE, refusal)
            else:
                answer = await self._answer(reader)
            await _send(writer, answer)
        except (OSError, EOFError, TimeoutError):
            # The client left, or does not read.
            pass
        finally:
            self._users[user] -= 1
            # The counter keeps no users without connections.
            self._users += Counter()
            writer.transport.abort()

    def _user(self, writer: asyncio.StreamWriter) -> str:
        if self._user_of is None:
            return ""
        ends = [writer.get_extra_info(end) for end in ("peername", "sockname")]
        return self._user_of(*ends)

    def _refuse(self, user: str) -> str:
        """Return why a connection is refused; empty if it is not."""
        if self._users.total() > MOST_CONNECTIONS:
            return "too many connections."
        if self._user_of and self._users[user] > MOST_OF_USER:
            return "too many connections of this user."
        return ""

    async def _answer(self, reader: asyncio.StreamReader) -> HttpAnswer:
        try:
            request = await asyncio.wait_for(_read(reader), PATIENCE)
        except BadRequest as error:
            return answer_refusal(error)
        except TimeoutError:
            return answer_error(HTTPStatus.REQUEST_TIMEOUT, "the request is not complete.")
        watch = asyncio.ensure_future(_watch(reader, request.cancelled))
        try:
            return await self._handler(request)
        finally:
            watch.cancel()


async def _watch(reader: asyncio.StreamReader, cancelled: threading.Event) -> None:
    """Set the event when the client leaves. Further data of a client means nothing."""
    with suppress(OSError):
        while await reader.read(BLOCK):
            pass
    cancelled.set()


async def _read(reader: asyncio.StreamReader) -> HttpRequest:
    """Read one request.

    :raises BadRequest: if it is not valid, or too large.
    """
    import h11

    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
    body = bytearray()
    try:
        head = await _next_event(connection, reader)
        if not isinstance(head, h11.Request):
            raise EOFError
        while isinstance(event := await _next_event(connection, reader), h11.Data):
            body += event.data
            if len(body) > LONGEST_BODY:
                raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large.")
    except h11.RemoteProtocolError as error:
        raise BadRequest(HTTPStatus(error.error_status_hint), str(error)) from error
    return _request(head, bytes(body))


async def _next_event(connection: h11.Connection, reader: asyncio.StreamReader) -> Any:
    """Return the next part of a request."""
    import h11

    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(BLOCK))
    return event


def _request(head: h11.Request, body: bytes) -> HttpRequest:
    """Return a complete request.

    :raises BadRequest: if the head is too long: h11 limits only incomplete ones.
    """
    size = len(head.target) + sum(len(name) + len(value) for name, value in head.headers)
    if size > LONGEST_HEAD:
        raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too long.")
    headers = {
        bytes(name).decode("ascii").lower(): bytes(value).decode("latin-1")
        for name, value in head.headers
    }
    target = bytes(head.target).decode("ascii", "replace")
    return HttpRequest(bytes(head.method).decode("ascii"), target.partition("?")[0], headers, body)


async def _send(writer: asyncio.StreamWriter, answer: HttpAnswer) -> None:
    import h11

    connection = h11.Connection(h11.SERVER)
    headers = [
        ("Content-Type", answer.kind),
        ("Content-Length", str(len(answer.body))),
        ("Connection", "close"),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        *answer.headers,
    ]
    head = h11.Response(
        status_code=answer.status, headers=headers, reason=HTTPStatus(answer.status).phrase.encode()
    )
    data = [connection.send(event) or b"" for event in (head, h11.Data(data=answer.body))]
    writer.write(b"".join(data))
    await asyncio.wait_for(writer.drain(), PATIENCE)
    writer.close()
    await asyncio.wait_for(writer.wait_closed(), PATIENCE)
