# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits of connections: a user of the machine cannot have all of them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from stockyard.service import http_server
from stockyard.service.http_server import HttpAnswer, HttpRequest, HttpServer
from stockyard.service.local_user import user_of

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def answer(_request: HttpRequest) -> HttpAnswer:
    return HttpAnswer(200, b"{}")


def statuses(users: list[str], user_of: Callable[[Any, Any], str] | None) -> list[bytes]:
    """Return the status of the last connection of each user. All connections stay open."""

    async def run() -> list[bytes]:
        server = HttpServer(answer, user_of)
        listening = await asyncio.start_server(server.serve_client, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        writers, results = [], []
        for _user in users:
            # The server accepts connections in their order.
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(writer)
            await asyncio.sleep(0.05)
            results.append((reader, writer))
        lines = []
        for reader, writer in results:
            writer.write(REQUEST)
            async with asyncio.timeout(30):
                lines.append((await reader.readline()).split()[1])
        for writer in writers:
            writer.close()
        listening.close()
        return lines

    return asyncio.run(run())


def test_user_cannot_have_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MOST_OF_USER", 2)
    users = ["ana", "ana", "ana", "ben"]
    remaining = iter(users)
    answers = statuses(users, lambda _client, _server: next(remaining))
    assert answers == [b"200", b"200", b"503", b"200"]


def test_number_of_connections_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MOST_CONNECTIONS", 2)
    assert statuses(["ana"] * 3, None) == [b"200", b"200", b"503"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_user_of_a_connection_is_known(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        with socket.create_connection(listener.getsockname()[:2]) as client:
            server, _place = listener.accept()
            with server:
                ends = client.getsockname(), server.getsockname()
                assert user_of(*ends) == str(os.getuid())
        assert user_of((address, 1), ends[1]) == ""
    assert user_of(None, None) == ""
