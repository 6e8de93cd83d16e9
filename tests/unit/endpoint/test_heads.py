# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads of requests: the header that BuildKit's clients repeat, and no other one; lines that end
with LF, as those of Jenkins.
"""

from __future__ import annotations

import asyncio

import pytest

from stockyard.endpoint.heads import MOST_METHODS, parse_head, read_head
from stockyard.guest.security.reader.grammar import Refusal
from stockyard.guest.security.reader.streams import LIMIT, Stream

METHOD = "X-Docker-Expose-Session-Grpc-Method"
SESSION = (
    "POST /session HTTP/1.1",
    "Host: docker",
    f"{METHOD}: /grpc.health.v1.Health/Check",
    "Connection: Upgrade",
    f"{METHOD.lower()}: /moby.filesync.v1.FileSync/DiffCopy",
    "Upgrade: h2c",
)


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


def test_each_method_of_buildkit_reaches_docker() -> None:
    request = parse_head(head(*SESSION))
    assert request.upgrade
    lines = request.head.decode().split("\r\n")
    assert lines[0] == SESSION[0]
    assert sorted(filter(None, lines)) == sorted(SESSION)
    assert request.head.endswith(b"\r\n\r\n")


def test_a_request_without_methods_is_read_as_before() -> None:
    assert parse_head(head("GET /info HTTP/1.1", "Host: docker")).head == head(
        "GET /info HTTP/1.1", "Host: docker"
    )


@pytest.mark.parametrize(
    "lines",
    [
        ("Host: other",),
        ("X-Docker-Expose-Session-Uuid: 1", "X-Docker-Expose-Session-Uuid: 2"),
        (f"{METHOD}: /one\nContent-Length: 3", f"{METHOD}: /two"),
        (f"{METHOD}: /one, /two", f"{METHOD}: /three, /four"),
        (f"{METHOD} : /one", f"{METHOD} : /two"),
        (f"{METHOD}: /one",) * (MOST_METHODS + 1),
    ],
)
def test_other_repeated_headers_are_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(Refusal):
        parse_head(head("GET /info HTTP/1.1", "Host: docker", *lines))


async def read(data: bytes) -> tuple[bytes, bytes]:
    """Return a head, and the bytes that follow."""
    reader = Stream(LIMIT)
    reader.feed_data(data)
    reader.feed_eof()
    return await read_head(reader, await reader.read(1)), await reader.read()


LINES = ("POST /exec/1/start HTTP/1.1", "Host: docker.sock", "Content-Length: 2")


@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
def test_a_head_ends_at_its_first_empty_line(line_end: str) -> None:
    data = line_end.join([*LINES, "", "{}\n\r\n\r\n"]).encode()
    raw, body = asyncio.run(read(data))
    assert parse_head(raw).head == head(*LINES)
    assert body == b"{}\n\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"GET /info HTTP/1.1\nHost: docker\r\n\r\n",
        b"GET /info HTTP/1.1\r\nHost: docker\n\n",
        b"GET /info HTTP/1.1\nHost: docker\nA: b\rC: d\n\n",
        b"GET /info HTTP/1.1\r\nA: b\n\r\nC: d\r\n\r\n",
        b"\r\nGET /info HTTP/1.1\r\n\r\n",
    ],
)
def test_a_head_with_two_line_ends_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal):
        parse_head(asyncio.run(read(data))[0])


def test_a_head_that_is_too_long_is_not_read() -> None:
    with pytest.raises(asyncio.LimitOverrunError):
        asyncio.run(read(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * LIMIT))
