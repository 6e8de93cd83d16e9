# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way out of a host through an HTTP proxy, for programs that do not know of a proxy."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stockyard.guest.agent import apply, way_out
from stockyard.guest.agent.way_out import Names, Relay, answer, request_for_proxy
from stockyard.providers.memory.guest import NoEffects

NAME, FIRST_ADDRESS = "registry.example.org", "198.18.0.1"


def question(name: str, kind: int = 1, flags: int = 0x100) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!HHHHHH", 7, flags, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, kind, 1)


def test_name_has_one_address_and_is_known_by_it() -> None:
    names = Names()
    first_reply = answer(question("Registry.example.org"), names)
    assert socket.inet_ntoa(first_reply[-4:]) == FIRST_ADDRESS
    assert struct.unpack_from("!HHHHHH", first_reply) == (7, 0x8180, 1, 1, 0, 0)
    assert answer(question(NAME), names)[-4:] == first_reply[-4:]
    assert answer(question("other.example.org"), names)[-4:] != first_reply[-4:]
    assert names.name(FIRST_ADDRESS) == NAME
    assert names.name("198.18.0.9") == ""


@pytest.mark.parametrize("kind", [28, 33, 15, 16, 65])
def test_other_records_do_not_exist(kind: int) -> None:
    reply = answer(question(NAME, kind), Names())
    assert struct.unpack_from("!HHHHHH", reply) == (7, 0x8180, 1, 0, 0, 0)
    assert len(reply) == len(question(NAME))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0" * 11,
        b"\0" * 17,
        question(NAME)[:-3],
        question(NAME, flags=0x8100),
        question("a b"),
        question(NAME)[:4] + b"\0\2" + question(NAME)[6:],
        question(NAME)[:12] + b"\xc0\x0c" + b"\0" * 8,
        question(NAME)[:12] + b"\x3f" + b"a" * 5,
    ],
)
def test_malformed_question_has_no_answer(text: bytes) -> None:
    assert answer(text, Names()) == b""


def test_oldest_name_is_forgotten() -> None:
    names = Names(count=2)
    addresses = [names.address(name) for name in ("a", "b", "a", "c")]
    assert addresses[3] == addresses[1]
    assert names.name(socket.inet_ntoa(addresses[0])) == "a"
    assert names.name(socket.inet_ntoa(addresses[1])) == "c"


@pytest.mark.parametrize(
    ("place", "head", "expected"),
    [
        (
            "a.example.org:80",
            b"GET /x HTTP/1.1\r\nHost: a.example.org\r\nConnection: keep-alive\r\n\r\n",
            (
                b"GET http://a.example.org/x HTTP/1.1\r\nConnection: close\r\n"
                b"Host: a.example.org\r\n\r\n"
            ),
        ),
        (
            "a.example.org:8000",
            b"POST / HTTP/1.0\r\n\r\nbody",
            b"POST http://a.example.org:8000/ HTTP/1.0\r\nConnection: close\r\n\r\nbody",
        ),
        (
            "a.example.org:80",
            b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            (
                b"GET http://a.example.org/ HTTP/1.1\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\n\r\n"
            ),
        ),
        ("a.example.org:443", b"\x16\x03\x01\x02\0\1", b""),
        ("a.example.org:22", b"", b""),
        ("a.example.org:80", b"GET http://b.example.org/ HTTP/1.1\r\n\r\n", b""),
    ],
)
def test_plain_request_names_the_server(place: str, head: bytes, expected: bytes) -> None:
    assert request_for_proxy(head, place) == expected


class Proxy:
    """An HTTP proxy that records each head, and repeats what follows a tunnel.

    :param status: its answer to CONNECT.
    """

    def __init__(self, status: bytes = b"200 Connected") -> None:
        self.status = status
        self.heads: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _address = self.listener.accept()
            except OSError:
                return
            with client:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += client.recv(65536)
                self.heads.append(head)
                if head.startswith(b"CONNECT "):
                    client.sendall(b"HTTP/1.1 " + self.status + b"\r\n\r\nhello ")
                    while data := client.recv(65536):
                        client.sendall(data)
                else:
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\nplain")


@pytest.fixture
def connect() -> Iterator[Callable[[Proxy, int, str], socket.socket]]:
    """Connects a client through a relay to a port of a name or an address."""
    listeners: list[socket.socket] = []

    def connected(proxy: Proxy, port: int, name: str = NAME) -> socket.socket:
        names = Names()
        address = socket.inet_ntoa(names.address(name)) if name else "10.0.2.15"
        relay = Relay(proxy.listener.getsockname(), names, lambda _client: (address, port))
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.extend((listener, proxy.listener))
        threading.Thread(target=relay.serve, args=(listener,), daemon=True).start()
        return socket.create_connection(listener.getsockname(), 20)

    yield connected
    for listener in listeners:
        listener.close()


def received(client: socket.socket) -> bytes:
    data = b""
    while block := client.recv(65536):
        data += block
    return data


def test_other_protocols_get_a_tunnel(connect: Callable[..., socket.socket]) -> None:
    proxy = Proxy()
    with connect(proxy, 443) as client:
        client.sendall(b"\x16\x03\x01")
        client.shutdown(socket.SHUT_WR)
        assert received(client) == b"hello \x16\x03\x01"
    assert proxy.heads == [f"CONNECT {NAME}:443 HTTP/1.1\r\nHost: {NAME}:443\r\n\r\n".encode()]


def test_client_may_wait_for_the_server(connect: Callable[..., socket.socket]) -> None:
    with connect(Proxy(), 22) as client:
        assert client.recv(6) == b"hello "


def test_plain_request_goes_to_the_proxy(connect: Callable[..., socket.socket]) -> None:
    proxy = Proxy()
    with connect(proxy, 8000) as client:
        client.sendall(b"GET /x HTTP/1.1\r\n")
        client.sendall(b"Host: x\r\n\r\n")
        assert received(client).endswith(b"plain")
    assert proxy.heads[0].startswith(f"GET http://{NAME}:8000/x HTTP/1.1\r\n".encode())


def test_refused_tunnel_closes_the_connection(
    connect: Callable[..., socket.socket], capsys: pytest.CaptureFixture[str]
) -> None:
    with connect(Proxy(b"403 Forbidden"), 443) as client:
        client.sendall(b"\x16")
        assert received(client) == b""
    assert f"the proxy refused {NAME}:443: HTTP/1.1 403 Forbidden" in capsys.readouterr().out


def test_connection_to_no_name_is_closed(connect: Callable[..., socket.socket]) -> None:
    """Another machine of a network could connect to the relay itself."""
    proxy = Proxy()
    with connect(proxy, way_out.RELAY_PORT, "") as client:
        assert received(client) == b""
    assert proxy.heads == []


class Watched(NoEffects):
    """Effects that record each start and stop of the way out."""

    def __init__(self) -> None:
        self.events: list[bool] = []

    def set_way_out(self, on: bool) -> None:
        self.events.append(on)


def test_host_with_a_proxy_has_a_way_out_until_it_has_none(tmp_path: Path) -> None:
    effects = Watched()
    identity = apply.Identity(str(tmp_path), effects)
    request: dict[str, Any] = {
        "uuid": "u", "hostname": "web-1", "machine_id": "0" * 32, "entropy": "", "time": 0,
        "authorized_keys": [],
        "network": {
            "interface": "eth0", "mac": "", "address": "10.0.2.15", "netmask": "255.255.255.0",
            "gateway": "", "nameserver": "10.0.2.15",
        },
    }  # fmt: skip
    identity.identify({**request, "proxy": "http://10.0.2.15:3128"})
    order = tmp_path / way_out.ORDER[1:]
    assert json.loads(order.read_text()) == {
        "address": "10.0.2.15",
        "host": "10.0.2.15",
        "port": 3128,
    }
    assert (tmp_path / "etc/resolv.conf").read_text() == "nameserver 10.0.2.15\n"
    assert effects.events == [True]
    identity.identify(request)
    assert not order.exists()
    assert effects.events == [True, False]
    identity.identify(request)
    assert effects.events == [True, False]
