# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The grammar of heads and chunks: a request can be read in exactly one way, or it is refused.

h11 parses; this module refuses the spellings that h11 accepts and that two programs could read
differently.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD_END = b"\r\n\r\n"
LINE_END = b"\r\n"
# Chunk sizes without leading white space, extensions or more digits than any chunk needs.
CHUNK = re.compile(rb"[0-9A-Fa-f]{1,8}\r\n")
FORMS = re.compile(rb"form-urlencoded|multipart", re.IGNORECASE)
RAW_STREAM = b"application/vnd.docker."
SWITCHING, NO_CONTENT, NOT_MODIFIED = 101, 204, 304


class Refusal(Exception):
    """Refusal of a request, which is not passed on to dockerd.

    :param status: status of the answer.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Body:
    """The framing of a body.

    :param length: number of bytes; ``None`` for a body in chunks or one that ends with its
        connection.
    """

    length: int | None = 0
    chunked: bool = False


NO_BODY = Body()


@dataclass(frozen=True)
class Request:
    """A request that was checked.

    :param head: bytes for dockerd, written from the parsed head.
    :param upgrade: whether the client requests another protocol.
    :param close: whether the client closes the connection after the request.
    """

    method: bytes
    head: bytes
    body: Body
    upgrade: bool
    close: bool


@dataclass(frozen=True)
class Answer:
    """The head of an answer from dockerd.

    :param hijacked: whether dockerd has left HTTP: the following bytes belong to the streams of a
        container.
    :param close: whether dockerd closes the connection after the answer.
    """

    status: int
    body: Body
    hijacked: bool
    close: bool


def parse_request(raw: bytes) -> Request:
    """Return the request in a complete head.

    :raises Refusal: if the head can be read in more than one way.
    """
    import h11

    _check_lines(raw)
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(raw)
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise Refusal(f"The request is not HTTP/1.1: {error}.") from error
    if not isinstance(event, h11.Request) or event.http_version != b"1.1":
        raise Refusal("The request is not HTTP/1.1.")
    if not event.target.startswith(b"/"):
        raise Refusal("The target of the request is not a path. Send a path that begins with /.")
    headers: dict[bytes, bytes] = {}
    for name, value in event.headers:
        if name in headers:
            raise Refusal(f"The header {name.decode()} is sent twice. Send it once.")
        headers[name] = value
    # h11 merges equal lengths into one header.
    if raw.count(LINE_END) != len(headers) + 2:
        raise Refusal("A header is sent twice. Send it once.")
    body = _request_body(headers)
    lines = [
        b"%s %s HTTP/1.1" % (event.method, event.target),
        *(b"%s: %s" % item for item in event.headers.raw_items()),
    ]
    return Request(
        event.method,
        LINE_END.join(lines) + HEAD_END,
        body,
        b"upgrade" in headers,
        _closes(headers.get(b"connection")),
    )


def _check_lines(raw: bytes) -> None:
    """Refuse bare line feeds, which h11 accepts as line ends, and folded lines, which h11 joins."""
    if not raw.count(b"\n") == raw.count(b"\r") == raw.count(LINE_END) or b"\0" in raw:
        raise Refusal(
            "The head of the request has a bare control character. End each line with CR LF."
        )
    if b"\r\n " in raw or b"\r\n\t" in raw:
        raise Refusal("A header of the request is folded. Send each header in one line.")


def _request_body(headers: dict[bytes, bytes]) -> Body:
    if FORMS.search(headers.get(b"content-type", b"")):
        raise Refusal(
            "The body of the request is a form. Send JSON with Content-Type: application/json."
        )
    if b"trailer" in headers:
        raise Refusal("The request announces trailers. Send all headers in its head.")
    length, coding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
    if coding is not None and length is not None:
        raise Refusal(
            "The request has both Transfer-Encoding and Content-Length. Send one of them."
        )
    if coding is not None:
        if coding != b"chunked":
            raise Refusal(
                "The Transfer-Encoding of the request is not chunked. Use chunked or "
                "Content-Length."
            )
        return Body(None, chunked=True)
    return Body(int(length or 0))


def parse_answer(raw: bytes, method: bytes) -> Answer:
    """Return the answer in a head from dockerd, with the framing of its body.

    :param method: method of the request.
    :raises ValueError: if the bytes are not a head of HTTP.
    """
    status_line, *lines = raw[: -len(HEAD_END)].split(LINE_END)
    status = int(status_line.split(b" ", 2)[1])
    headers = {
        name.lower(): value.strip()
        for name, _colon, value in (line.partition(b":") for line in lines)
    }
    if status < 200 or status in (NO_CONTENT, NOT_MODIFIED) or method == b"HEAD":
        return Answer(status, NO_BODY, status == SWITCHING, _closes(headers.get(b"connection")))
    chunked = headers.get(b"transfer-encoding", b"").lower() == b"chunked"
    length = (
        int(headers[b"content-length"]) if b"content-length" in headers and not chunked else None
    )
    # A hijacked stream without an upgrade is an answer without an end. With a length or chunks
    # dockerd continues with HTTP.
    endless = not chunked and length is None
    hijacked = endless and headers.get(b"content-type", b"").startswith(RAW_STREAM)
    return Answer(
        status, Body(length, chunked), hijacked, endless or _closes(headers.get(b"connection"))
    )


def parse_chunk_size(line: bytes) -> int:
    """Return the size of a client's chunk from its line.

    :raises Refusal: if the spelling differs from that of Docker's clients.
    """
    if not CHUNK.fullmatch(line):
        raise Refusal("A chunk of the request has no plain size. Send chunks without extensions.")
    return int(line, 16)


def _closes(connection: bytes | None) -> bool:
    return connection is not None and b"close" in connection.lower()
