# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP reader in front of dockerd's socket, with a server behind it that notes every byte that
it is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
import socket
import socketserver
import threading
import time
from collections.abc import Coroutine, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, TypeVar

import pytest

from stockyard.guest.security.reader import server
from stockyard.guest.security.reader.grammar import Refusal, parse_request
from stockyard.guest.security.reader.streams import LIMIT

RAW = "application/vnd.docker.raw-stream"
MIB = 1 << 20
T = TypeVar("T")


class Docker(BaseHTTPRequestHandler):
    """A dockerd that answers with the request that it saw."""

    protocol_version = "HTTP/1.1"
    requests: list[str]
    ended: threading.Event

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        self.requests.append(self.requestline)
        return parsed

    def do_GET(self) -> None:
        if self.path == "/events":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"3\r\none\r\n")
            self.ended.set() if not self.rfile.read(1) else None
        elif self.path == "/die":
            self.close_connection = True
        else:
            self._answer(json.dumps(dict(self.headers.items())).encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        """Answer at once, and go: as Go does, the end comes a while later."""
        self.send_response(413)
        self.send_header("Connection", "close")
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.connection.shutdown(socket.SHUT_WR)
        time.sleep(0.5)

    def do_POST(self) -> None:
        if self.headers.get("Expect") == "100-continue":
            pass  # the base class has sent it
        digest, size = hashlib.sha256(), 0
        if self.headers.get("Transfer-Encoding"):
            while length := int(self.rfile.readline(), 16):
                digest.update(self.rfile.read(length))
                size += length
                self.rfile.readline()
            self.rfile.readline()
        else:
            size = int(self.headers.get("Content-Length") or 0)
            remaining = size
            while remaining:
                block = self.rfile.read(min(remaining, MIB))
                if not block:
                    self.ended.set()
                    self.close_connection = True
                    return
                digest.update(block)
                remaining -= len(block)
        if self.path == "/attach":
            self._stream()
        else:
            self._answer(json.dumps({"size": size, "sum": digest.hexdigest()}).encode())

    def _stream(self) -> None:
        """As dockerd does with a client that asked for an upgrade, and with one that did not."""
        upgrade = self.headers.get("Upgrade")
        lines = (
            f"101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {upgrade}" if upgrade else "200 OK"
        )
        self.wfile.write(f"HTTP/1.1 {lines}\r\nContent-Type: {RAW}\r\n\r\n".encode())
        while block := self.connection.recv(65536):
            self.wfile.write(block)
        self.wfile.write(b"end of input")
        self.close_connection = True

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # the base class's name for it
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return

    def address_string(self) -> str:
        return "reader"


class Listener(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is not an error."""


class Bench:
    """A reader, and the server behind it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.docker = str(folder / "front.sock"), str(folder / "docker.sock")
        self.requests: list[str] = []
        self.ended = threading.Event()
        self.behind: Listener | None = None
        self.loop = asyncio.new_event_loop()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = self.wait_for(server.listen(self.listener, self.docker))

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it in the reader's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def close(self) -> None:
        self.stop()
        self.wait_for(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    async def _end(self) -> None:
        self.server.close()
        remaining_tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in remaining_tasks:
            task.cancel()
        await asyncio.gather(*remaining_tasks, return_exceptions=True)
        await asyncio.sleep(0.01)

    def start(self) -> None:
        Path(self.docker).unlink(missing_ok=True)
        handler = type("Bound", (Docker,), {"requests": self.requests, "ended": self.ended})
        self.behind = Listener(self.docker, handler)
        threading.Thread(target=self.behind.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self.behind:
            self.behind.shutdown()
            self.behind.server_close()

    def connect(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.settimeout(30)
        listener.connect(self.path)
        return listener

    def ask(self, data: bytes) -> tuple[int, bytes]:
        """The answer to raw bytes."""
        with self.connect() as client:
            client.sendall(data)
            return read_answer(client)


def read_answer(client: socket.socket, method: str = "GET") -> tuple[int, bytes]:
    with http.client.HTTPResponse(client, method=method) as answer:
        answer.begin()
        return answer.status, answer.read()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench_of_test = Bench(tmp_path)
    bench_of_test.start()
    yield bench_of_test
    bench_of_test.close()


HOST = b"Host: d\r\n"
PLAIN = b"POST /x HTTP/1.1\r\n" + HOST
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
REFUSED: dict[str, bytes] = {
    "form": PLAIN + FORM + b"Content-Length: 3\r\n\r\na=b",
    "form in other case": PLAIN + FORM.upper() + b"Content-Length: 3\r\n\r\na=b",
    "form with a parameter": PLAIN
    + b"Content-Type: application/x-www-form-urlencoded; x\r\nContent-Length: 0\r\n\r\n",
    "multipart form": PLAIN
    + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 0\r\n\r\n",
    "form before text": PLAIN + FORM + b"Content-Type: text/plain\r\nContent-Length: 3\r\n\r\na=b",
    "form behind text": PLAIN
    + b"Content-Type: text/plain\r\n"
    + FORM
    + b"Content-Length: 3\r\n\r\na=b",
    "two content types": PLAIN
    + b"Content-Type: a/b\r\ncontent-type: a/b\r\nContent-Length: 0\r\n\r\n",
    "two equal lengths": PLAIN + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "two lengths": PLAIN + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "two lengths in one": PLAIN + b"Content-Length: 3, 4\r\n\r\nabc",
    "length with a sign": PLAIN + b"Content-Length: +3\r\n\r\nabc",
    "length and chunks": PLAIN
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two codings": PLAIN
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": PLAIN + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity": PLAIN + b"Transfer-Encoding: identity\r\n\r\n",
    "two hosts": PLAIN + HOST + b"\r\n",
    "no host": b"GET /x HTTP/1.1\r\n\r\n",
    "two upgrades": PLAIN + b"Upgrade: tcp\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    "any header twice": PLAIN + b"X-Registry-Auth: a\r\nX-Registry-Auth: b\r\n\r\n",
    "folded header": PLAIN + b"X: a\r\n Content-Type: b\r\n\r\n",
    "folded header with a tab": PLAIN + b"X: a\r\n\tb\r\n\r\n",
    "bare line feed": PLAIN + b"X: a\nY: b\r\n\r\n",
    "bare carriage return": PLAIN + b"X: a\rY: b\r\n\r\n",
    "zero byte": PLAIN + b"X: a\0b\r\n\r\n",
    "space before the colon": PLAIN + b"X : a\r\n\r\n",
    "header without a colon": PLAIN + b"X\r\n\r\n",
    "space first": b" " + PLAIN + b"\r\n",
    "empty line first": b"\r\n" + PLAIN + b"\r\n",
    "absolute target": b"GET http://d/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "authority as target": b"CONNECT d:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "asterisk as target": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "two spaces": b"GET  /x HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/1.0": b"GET /x HTTP/1.0\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": b"GET /x HTTP/1.2\r\n" + HOST + b"\r\n",
    "trailers announced": PLAIN + b"Trailer: X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}
CHUNKED = PLAIN + b"Transfer-Encoding: chunked\r\n\r\n"
BAD_CHUNKS = {
    "extension": b"3;a=b\r\nabc\r\n0\r\n\r\n",
    "sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "space": b"3 \r\nabc\r\n0\r\n\r\n",
    "underscore": b"0_3\r\nabc\r\n0\r\n\r\n",
    "bare line feed": b"3\nabc\r\n0\r\n\r\n",
    "too many digits": b"000000003\r\nabc\r\n0\r\n\r\n",
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "longer than it says": b"2\r\nabc\r\n0\r\n\r\n",
    "trailers": b"3\r\nabc\r\n0\r\nX: y\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_request_with_two_readings_is_refused(bench: Bench, name: str) -> None:
    status, body = bench.ask(REFUSED[name])
    assert (status, list(json.loads(body))) == (400, ["message"])
    assert bench.requests == []


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_chunks_with_two_readings_are_refused(bench: Bench, name: str) -> None:
    status, body = bench.ask(CHUNKED + BAD_CHUNKS[name])
    assert (status, list(json.loads(body))) == (400, ["message"])


def test_head_without_an_end_is_refused(bench: Bench) -> None:
    status, body = bench.ask(PLAIN + b"X: " + b"a" * (3 * LIMIT))
    assert (status, list(json.loads(body))) == (431, ["message"])


@pytest.mark.parametrize(
    "spelled", ["application/json", "application/x-tar", "text/plain; charset=utf-8", ""]
)
def test_request_of_a_client_reaches_docker_unchanged(bench: Bench, spelled: str) -> None:
    headers = (
        b"Content-Type: %s\r\nX-Registry-Auth: e30=\r\nAuthorization: x\r\n" % spelled.encode()
    )
    status, body = bench.ask(b"GET /v1.41/info?a=%20b HTTP/1.1\r\n" + HOST + headers + b"\r\n")
    read = json.loads(body)
    assert (status, read["X-Registry-Auth"], read["Content-Type"]) == (200, "e30=", spelled)
    assert bench.requests == ["GET /v1.41/info?a=%20b HTTP/1.1"]


def test_head_for_docker_is_rebuilt_from_the_parsed_request() -> None:
    request = parse_request(b"GET /x HTTP/1.1\r\nHost:  d \r\nX:y\r\n\r\n")
    assert request.head == b"GET /x HTTP/1.1\r\nHost: d\r\nX: y\r\n\r\n"


def test_connection_is_kept_for_requests_one_after_another(bench: Bench) -> None:
    with bench.connect() as client:
        for _request in range(3):
            client.sendall(PLAIN + b"Content-Length: 3\r\n\r\nabc")
            assert read_answer(client)[0] == 200
        client.sendall(b"HEAD /x HTTP/1.1\r\n" + HOST + b"\r\n")
        assert read_answer(client, "HEAD") == (200, b"")
        client.sendall(b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n")
        assert read_answer(client)[0] == 200
    assert len(bench.requests) == 5


def test_pipelined_requests_are_judged_one_by_one(bench: Bench) -> None:
    good = b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"
    with bench.connect() as client:
        client.sendall(good + good + REFUSED["form before text"] + good)
        data = b""
        while block := client.recv(65536):
            data += block
    assert data.count(b"HTTP/1.1 200") == 2
    assert data.count(b"HTTP/1.1 400") == 1
    assert len(bench.requests) == 2


def test_request_hidden_in_a_body_is_not_passed_on_as_one(bench: Bench) -> None:
    hidden = b"GET /hidden HTTP/1.1\r\n" + HOST + b"\r\n"
    status, _body = bench.ask(PLAIN + b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden)
    assert (status, bench.requests) == (200, ["POST /x HTTP/1.1"])


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_large_body_arrives_whole(bench: Bench, chunked: bool) -> None:
    block, count = bytes(range(256)) * 256, 640
    total = hashlib.sha256(block * count).hexdigest()
    with bench.connect() as client:
        client.sendall(
            CHUNKED if chunked else PLAIN + b"Content-Length: %d\r\n\r\n" % (len(block) * count)
        )
        for _block in range(count):
            client.sendall(b"%x\r\n%s\r\n" % (len(block), block) if chunked else block)
        client.sendall(b"0\r\n\r\n" if chunked else b"")
        status, body = read_answer(client)
    assert (status, json.loads(body)) == (200, {"size": len(block) * count, "sum": total})


def test_client_gets_100_continue(bench: Bench) -> None:
    with bench.connect() as client:
        client.sendall(PLAIN + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"abc")
        assert read_answer(client)[0] == 200


@pytest.mark.parametrize("protocol", [b"tcp", b"h2c", b""])
def test_stream_flows_both_ways_until_both_ends_are_closed(bench: Bench, protocol: bytes) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: %s\r\n" % protocol if protocol else b""
    with bench.connect() as client:
        kind = b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        client.sendall(b"POST /attach HTTP/1.1\r\n" + HOST + upgrade + kind)
        head = client.recv(65536)
        assert head.startswith(b"HTTP/1.1 101 " if protocol else b"HTTP/1.1 200 ")
        client.sendall(b"GET /hidden HTTP/1.1\r\n\r\n")
        assert client.recv(65536) == b"GET /hidden HTTP/1.1\r\n\r\n"
        client.shutdown(socket.SHUT_WR)
        data = b""
        while block := client.recv(65536):
            data += block
    assert data == b"end of input"
    assert bench.requests == ["POST /attach HTTP/1.1"]


def test_endless_answer_is_streamed_and_ends_with_its_client(
    bench: Bench,
) -> None:
    client = bench.connect()
    client.sendall(b"GET /events HTTP/1.1\r\n" + HOST + b"\r\n")
    data = b""
    while b"one" not in data:
        data += client.recv(65536)
    assert not bench.ended.is_set()
    client.close()
    assert bench.ended.wait(10)


def test_client_that_ends_within_a_body_ends_the_request(bench: Bench) -> None:
    with bench.connect() as client:
        client.sendall(PLAIN + b"Content-Length: 10\r\n\r\nabc")
    assert bench.ended.wait(10)


def test_stopped_docker_is_answered_by_503_until_it_runs(bench: Bench) -> None:
    bench.stop()
    get = b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"
    status, body = bench.ask(get)
    assert (status, "Docker" in json.loads(body)["message"]) == (503, True)
    bench.start()
    assert bench.ask(get)[0] == 200


def test_docker_that_ends_without_an_answer_is_a_502(bench: Bench) -> None:
    status, body = bench.ask(b"GET /die HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (status, "Docker" in json.loads(body)["message"]) == (502, True)


def test_slow_client_blocks_no_other_and_is_disconnected(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD", 0.5)
    with bench.connect() as slow:
        slow.sendall(b"GET /x HT")
        assert bench.ask(b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n")[0] == 200
        begin = time.monotonic()
        assert slow.recv(1) == b""
        assert time.monotonic() - begin < 10


def test_connection_above_the_limit_is_refused_with_the_limit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    with bench.connect(), bench.connect():
        time.sleep(0.2)
        status, body = bench.ask(b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (status, "open connections" in json.loads(body)["message"]) == (503, True)
    time.sleep(0.2)
    assert bench.ask(b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n")[0] == 200


def test_many_idle_connections_block_no_client(bench: Bench) -> None:
    held = [bench.connect() for _number in range(400)]
    try:
        assert bench.ask(b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n")[0] == 200
    finally:
        for client in held:
            client.close()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (REFUSED["form"], "form"),
        (REFUSED["two content types"], "content-type is sent twice"),
        (REFUSED["length and chunks"], "both Transfer-Encoding and Content-Length"),
        (REFUSED["absolute target"], "not a path"),
    ],
)
def test_refusal_names_the_fault(head: bytes, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        parse_request(head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")


def test_reader_uses_no_more_of_python_than_a_guest_has() -> None:
    """The files are copied into hosts: they import themselves, the standard library and h11."""
    for name in ("exchange", "grammar", "server", "streams"):
        text = Path(server.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        assert "from .." not in text


def test_answer_to_a_body_that_docker_does_not_read_reaches_the_client(bench: Bench) -> None:
    with bench.connect() as client:
        client.sendall(
            b"PUT /early HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % (8 * MIB)
        )
        with contextlib.suppress(OSError):
            client.sendall(bytes(8 * MIB))
        assert read_answer(client)[0] == 413
