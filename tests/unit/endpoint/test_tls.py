# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS whose two directions end separately, by real handshakes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from stockyard import SingleSpec, TemplateSpec, Yard
from stockyard.endpoint.tls import TlsProtocol, connect_tls
from stockyard.guest.security.reader.streams import LIMIT, Peer, Stream
from stockyard.resources.hosts.docker_api import tls
from tests.helpers.simulated_machines import disk_of

Serve = Callable[[Peer], Awaitable[None]]
TEXT = b"text" * 300_000


def play(tmp_path: Path, serve: Serve, use: Callable[[Peer], Awaitable[None]]) -> None:
    """Run both ends of a connection: the server with the certificate of a host."""
    with Yard(f"memory://{tmp_path}/yard.json", pki_dir=str(tmp_path / "pki")) as yard:
        yard.templates.apply(TemplateSpec("docker"))
        host = yard.hosts.apply(SingleSpec("web", "docker")).object
        client = tls(yard.context.pki("default").client(yard.context.today()))
    folder = disk_of(host) / "var/lib/stockyard/tls"
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server_context.load_verify_locations(folder / "ca.pem")
    server_context.verify_mode = ssl.CERT_REQUIRED

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def accept() -> TlsProtocol:
            reader = Stream(LIMIT, loop)
            user = asyncio.StreamReaderProtocol(
                reader, lambda _reader, writer: serve(Peer(reader, writer)), loop=loop
            )
            return TlsProtocol(user, server_context)

        server = await loop.create_server(accept, host.address, 0)
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(20):
            peer = await connect_tls(host.address, port, client)
            try:
                await use(peer)
            finally:
                peer.abort()
                server.close()
                await asyncio.sleep(0.05)

    asyncio.run(run())


def test_output_follows_the_end_of_the_input(tmp_path: Path) -> None:
    async def serve(peer: Peer) -> None:
        content = await peer.reader.read(-1)
        await peer.send(content)
        await peer.send(b"end")
        peer.writer.close()

    async def use(peer: Peer) -> None:
        await peer.send(TEXT)
        peer.end()
        assert await peer.reader.read(-1) == TEXT + b"end"

    play(tmp_path, serve, use)


def test_input_follows_the_end_of_the_output(tmp_path: Path) -> None:
    received: list[bytes] = []

    async def serve(peer: Peer) -> None:
        await peer.send(b"first")
        peer.end()
        received.append(await peer.reader.read(-1))
        peer.writer.close()

    async def use(peer: Peer) -> None:
        assert await peer.reader.read(-1) == b"first"
        await peer.send(TEXT)
        peer.writer.close()
        await asyncio.sleep(0.5)
        assert received == [TEXT]

    play(tmp_path, serve, use)


def test_a_slow_reader_holds_the_sender_back(tmp_path: Path) -> None:
    sent: list[int] = []

    async def serve(peer: Peer) -> None:
        for number in range(200):
            await peer.send(b"x" * LIMIT)
            sent.append(number)
        peer.writer.close()

    async def use(peer: Peer) -> None:
        await asyncio.sleep(0.5)
        assert len(sent) < 200
        assert len(await peer.reader.read(-1)) == 200 * LIMIT

    play(tmp_path, serve, use)


def test_another_address_than_that_of_the_certificate_is_refused(tmp_path: Path) -> None:
    async def serve(peer: Peer) -> None:
        peer.writer.close()

    async def use(peer: Peer) -> None:
        port = peer.writer.get_extra_info("peername")[1]
        with pytest.raises(OSError, match=r"."):
            await connect_tls("127.0.0.1", port, ssl.create_default_context())

    play(tmp_path, serve, use)
