# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS whose two directions end separately, as the streams of containers do.

The TLS of asyncio closes both directions when one ends: ``docker run -i`` would lose the output
that follows the end of its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any, cast

from ..guest.security.reader.streams import LIMIT, Peer, Stream

# Seconds for a connection and its handshake.
HANDSHAKE = 30.0


class TlsProtocol(asyncio.Protocol):
    """The TLS of one connection, between its transport and the protocol of its user.

    :param user: the protocol that gets the decrypted bytes.
    :param address: the address of the server that its certificate must name; empty on the server.
    """

    def __init__(
        self, user: asyncio.StreamReaderProtocol, context: ssl.SSLContext, address: str = ""
    ) -> None:
        self.user = user
        self.transport: asyncio.Transport
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=not address,
            server_hostname=address or None,
        )
        self._eof = False
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self.transport = cast(asyncio.Transport, transport)
        self._advance()

    def data_received(self, data: bytes) -> None:
        """Decrypt what arrived."""
        self._incoming.write(data)
        self._advance()

    def eof_received(self) -> bool:
        """Note that the connection ended without an end of TLS."""
        self._incoming.write_eof()
        if self.ready.done():
            self._receive_eof()
        else:
            self._fail(ConnectionError("the connection ended during the handshake"))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the user that the connection ended."""
        if self.ready.done() and not self.ready.cancelled() and not self.ready.exception():
            self.user.connection_lost(exc)
        elif not self.ready.done():
            self._fail(exc or ConnectionError("the connection ended during the handshake"))

    def pause_writing(self) -> None:
        """Pass the pressure on."""
        self.user.pause_writing()

    def resume_writing(self) -> None:
        """Pass the end of the pressure on."""
        self.user.resume_writing()

    def write(self, data: bytes) -> None:
        """Encrypt and send bytes."""
        if self._ended:
            raise ConnectionError("the sending side of the connection has ended")
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        self._flush()

    def end(self) -> None:
        """End the sending side. Bytes can still arrive."""
        if self._ended:
            return
        self._ended = True
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()

    def _advance(self) -> None:
        try:
            if not self.ready.done():
                self._tls.do_handshake()
                self._flush()
                self.ready.set_result(None)
                self.user.connection_made(TlsTransport(self))
            while block := self._tls.read(LIMIT):
                self.user.data_received(block)
            self._receive_eof()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._receive_eof()
        except ssl.SSLError as error:
            self._flush()
            if self.ready.done():
                self.transport.abort()
            else:
                self._fail(error)
            return
        self._flush()

    def _receive_eof(self) -> None:
        if not self._eof:
            self._eof = True
            self.user.eof_received()

    def _flush(self) -> None:
        if self._outgoing.pending and not self.transport.is_closing():
            self.transport.write(self._outgoing.read())

    def _fail(self, error: Exception) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
            # A server does not wait for the handshake.
            self.ready.exception()
        self.transport.close()


class TlsTransport(asyncio.Transport):
    """The transport of the decrypted bytes."""

    def __init__(self, protocol: TlsProtocol) -> None:
        super().__init__()
        self._tls = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return a fact of the connection under the TLS."""
        return self._tls.transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Return whether the connection is closing."""
        return self._tls.transport.is_closing()

    def pause_reading(self) -> None:
        """Read no further bytes."""
        self._tls.transport.pause_reading()

    def resume_reading(self) -> None:
        """Continue to read."""
        if not self._tls.transport.is_closing():
            self._tls.transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that were not sent yet."""
        return self._tls.transport.get_write_buffer_size()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send bytes."""
        self._tls.write(bytes(data))

    def can_write_eof(self) -> bool:
        """Return true: the directions end separately."""
        return True

    def write_eof(self) -> None:
        """End the sending side."""
        self._tls.end()

    def close(self) -> None:
        """End both sides when everything is sent."""
        if not self._tls.transport.is_closing():
            self._tls.end()
            self._tls.transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._tls.transport.abort()


async def connect_tls(address: str, port: int, context: ssl.SSLContext) -> Peer:
    """Connect to a server.

    :raises OSError: if it does not answer, or its certificate is not valid.
    """
    loop = asyncio.get_running_loop()
    reader = Stream(LIMIT, loop)
    user = asyncio.StreamReaderProtocol(reader, loop=loop)
    protocol = TlsProtocol(user, context, address)
    async with asyncio.timeout(HANDSHAKE):
        transport, _protocol = await loop.create_connection(lambda: protocol, address, port)
        try:
            await protocol.ready
        except BaseException:
            transport.abort()
            raise
    return Peer(reader, asyncio.StreamWriter(TlsTransport(protocol), user, reader, loop))
