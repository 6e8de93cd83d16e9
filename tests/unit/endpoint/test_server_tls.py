# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An endpoint over mutual TLS: clients of the tenant are served, all others are refused."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockyard import Yard
from stockyard.endpoint.server import Endpoint
from stockyard.endpoint.server_tls import ServerTls, listen_tls
from stockyard.endpoint.tls import connect_tls
from stockyard.pki import ledger
from stockyard.resources.hosts import docker_api
from tests.helpers.fake_dockerd import FakeMachines

ADDRESS = "127.0.0.1"


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    with Yard(f"memory://{tmp_path}/yard.json", pki_dir=str(tmp_path / "pki")) as yard:
        yield yard


def client_of(yard: Yard, tenant: str, name: str = "") -> Path:
    """Return the directory of a new client certificate."""
    pki, today = yard.context.pki(tenant), yard.context.today()
    pki.authority(today)
    return pki.issue(name, pki.directory_of(name), today) if name else pki.client(today)


async def ping(context: ssl.SSLContext, port: int) -> bytes:
    """Return the answer to a ping; empty if the server hangs up."""
    peer = await connect_tls(ADDRESS, port, context)
    try:
        # With TLS 1.3 the server refuses a client after the handshake of that side.
        await peer.send(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(5):
            return await peer.reader.read(-1)
    finally:
        peer.abort()


def answers(yard: Yard, tmp_path: Path, *contexts: ssl.SSLContext) -> list[bytes]:
    """Return the answer of an endpoint to each client."""

    async def run() -> list[bytes]:
        machines = FakeMachines(tmp_path)
        await machines.host.start()
        endpoint = Endpoint(machines, lambda _line: None)
        await endpoint.start()
        settings = ServerTls(yard.context, "default", "doors", ADDRESS)
        server = await listen_tls(endpoint, ADDRESS, 0, settings.context)
        port = server.sockets[0].getsockname()[1]
        results = []
        for context in contexts:
            try:
                results.append(await ping(context, port))
            except OSError:
                results.append(b"")
        server.close()
        await endpoint.close()
        await asyncio.sleep(0.05)
        return results

    return asyncio.run(run())


def test_clients_of_the_tenant_are_served(yard: Yard, tmp_path: Path) -> None:
    operator = docker_api.tls(client_of(yard, "default"))
    user = docker_api.tls(client_of(yard, "default", "ana"))
    for answer in answers(yard, tmp_path, operator, user):
        assert answer.startswith(b"HTTP/1.1 200 OK")


def test_other_clients_are_refused(yard: Yard, tmp_path: Path) -> None:
    pki = yard.context.pki("default")
    anonymous = ssl.create_default_context(cafile=str(client_of(yard, "default") / "ca.pem"))
    stranger = ssl.create_default_context(cafile=str(client_of(yard, "default") / "ca.pem"))
    other_client = client_of(yard, "other")
    stranger.load_cert_chain(other_client / "cert.pem", other_client / "key.pem")
    folder = client_of(yard, "default", "ben")
    revoked = docker_api.tls(folder)
    authority = pki.authority(yard.context.today())
    pki.revoke(ledger.serial_of((folder / "cert.pem").read_text(), authority), yard.context.today())
    assert answers(yard, tmp_path, anonymous, stranger, revoked) == [b"", b"", b""]
