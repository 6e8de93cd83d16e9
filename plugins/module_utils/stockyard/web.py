# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP with one deadline and one size limit for a whole exchange.

A socket's timeout counts from byte to byte, and ``http.client`` reads a head line by line: a peer
that sends one byte every second holds an ordinary client for ever. Here every read and write gets
the remaining time of one deadline, from the connection over the TLS handshake to the last byte
of the body. A head or body over its limit ends it. The look-up of a name before that has the limits
of the system's resolver; hosts are reached by their addresses.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .clock import Deadline

LONGEST_HEAD = 1 << 16
# A write of this size fits into one TLS record, which is sent under one timeout.
RECORD = 1 << 14
PART = 1 << 16


class TooLarge(http.client.HTTPException):
    """The peer sent more than the exchange allows."""


@dataclass(frozen=True)
class Answer:
    """A complete HTTP answer.

    :param headers: the header fields; names compare without case.
    """

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True)
class Bounds:
    """The limits of one exchange.

    :param deadline: the moment at which the last byte must have arrived.
    :param longest: the largest body, in bytes.
    :param idle: the longest time without any byte, in seconds, for downloads that take long.
    """

    deadline: Deadline
    longest: int
    idle: float = math.inf

    def remaining(self) -> float:
        """Return the seconds that the next step can take.

        :raises TimeoutError: when the deadline has passed.
        """
        seconds = self.deadline.left()
        if seconds <= 0:
            raise TimeoutError(f"the exchange was not complete within {self.deadline.seconds:g} s")
        return min(seconds, self.idle)


class Connection(http.client.HTTPConnection):
    """A connection that keeps its bounds.

    :param host: name or address, with a port if ``port`` is not given.
    :param context: for TLS; ``None`` for plain HTTP.
    """

    def __init__(
        self,
        host: str,
        port: int | None = None,
        *,
        bounds: Bounds,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.default_port = http.client.HTTPS_PORT if context else http.client.HTTP_PORT
        super().__init__(host, port)
        self.bounds = bounds
        self._tls = context
        self._create_connection = self._dial
        self.response_class = self._response  # type: ignore[assignment]  # any callable will do

    def connect(self) -> None:
        """Connect, and do the TLS handshake if the connection has TLS."""
        super().connect()
        if self._tls:
            self.sock.settimeout(self.bounds.remaining())
            tunnel: str | None = getattr(self, "_tunnel_host", None)
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=tunnel or self.host)

    def send(self, data: Any) -> None:
        """Send bytes; each part gets the remaining time."""
        if self.sock is None:
            self.connect()
        view = memoryview(data)
        for start in range(0, len(view), RECORD):
            self.sock.settimeout(self.bounds.remaining())
            self.sock.sendall(view[start : start + RECORD])

    def exchange(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request, return the complete answer, and close the connection.

        :raises OSError: if the peer cannot be reached, or not in time.
        :raises http.client.HTTPException: if the answer is not HTTP, or is too large.
        """
        try:
            self.request(method, path, body or None, dict(headers or {}))
            response = self.getresponse()
            return Answer(response.status, response.headers, response.read())
        except OSError:
            # Before ValueError: a failed check of a certificate is both.
            raise
        except ValueError as error:
            raise http.client.HTTPException(f"the answer is not HTTP: {error}") from error
        finally:
            self.close()

    def _dial(self, address: tuple[str, int], *_options: object) -> socket.socket:
        """Try the addresses of a name; all of them share the deadline."""
        error: OSError = ConnectionError(f"{address[0]} has no address")
        for family, kind, protocol, _name, socket_address in socket.getaddrinfo(
            *address, type=socket.SOCK_STREAM
        ):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(self.bounds.remaining())
                sock.connect(socket_address)
                return sock
            except OSError as refusal:
                sock.close()
                error = refusal
        raise error

    def _response(
        self, sock: socket.socket, *arguments: Any, **options: Any
    ) -> http.client.HTTPResponse:
        return _Response(sock, self.bounds, *arguments, **options)


class _Response(http.client.HTTPResponse):
    """A response that reads within bounds, and never allocates memory for a length that is only
    claimed.
    """

    def __init__(
        self, sock: socket.socket, bounds: Bounds, *arguments: Any, **options: Any
    ) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp.close()
        self._stream = _Stream(sock, bounds)
        self.fp = io.BufferedReader(self._stream)

    def begin(self) -> None:
        super().begin()
        self._stream.allow_body()

    def read(self, amt: int | None = None) -> bytes:
        """Read a part of the body, or the whole remaining body.

        :raises http.client.HTTPException: if the body is truncated, too large, or not HTTP.
        """
        try:
            return self._read_rest() if amt is None else super().read(amt)
        except ValueError as error:
            raise http.client.HTTPException(f"the body is not HTTP: {error}") from error

    def _read_rest(self) -> bytes:
        expected, body = self.length, bytearray()
        while part := super().read(PART):
            body += part
        if expected is not None and len(body) < expected:
            raise http.client.IncompleteRead(bytes(body), expected - len(body))
        return bytes(body)


class _Stream(io.RawIOBase):
    """A socket as a stream of bytes; each read is held to the bounds."""

    def __init__(self, sock: socket.socket, bounds: Bounds) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._bounds = bounds
        self._allowed = LONGEST_HEAD

    def allow_body(self) -> None:
        """Allow a body after the head."""
        self._allowed += self._bounds.longest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._allowed <= 0:
            raise TooLarge(
                f"the answer exceeds {LONGEST_HEAD} bytes of head or {self._bounds.longest} bytes "
                f"of body"
            )
        self._sock.settimeout(self._bounds.remaining())
        count = self._raw.readinto(memoryview(buffer)[: self._allowed])
        self._allowed -= count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def opener(
    bounds: Bounds, proxies: Mapping[str, str] | None = None
) -> urllib.request.OpenerDirector:
    """Return an opener for http and https addresses; redirects are followed under the same
    deadline.

    :param proxies: a proxy for each scheme; those of the environment if not given.
    """
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(dict(proxies) if proxies else None),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Plain(bounds),
        _Tls(bounds),
    ):
        director.add_handler(handler)
    return director


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, bounds: Bounds) -> None:
        super().__init__()
        self._bounds = bounds

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)

    def _connection(self, host: str, **_options: Any) -> Connection:
        return Connection(host, bounds=self._bounds)


class _Tls(urllib.request.HTTPSHandler):
    def __init__(self, bounds: Bounds) -> None:
        super().__init__()
        self._bounds = bounds

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)

    def _connection(self, host: str, **_options: Any) -> Connection:
        return Connection(host, bounds=self._bounds, context=ssl.create_default_context())
