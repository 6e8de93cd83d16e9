# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP reader of a hostile host: what gets past the plugin elsewhere is refused, and Docker's
client works.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stockyard import HostInfo, SingleSpec, Yard
from stockyard.resources.hosts.docker_api import tls

from .conftest import Docker, ssh
from .test_attacks import TEMPLATES

pytestmark = pytest.mark.real
PREPARED = (TEMPLATES["hostile"],)
OWN_SOCKET = "/run/stockyard-docker/docker.sock"
IMPORT = b"POST /images/create?fromImage=busybox&tag=latest HTTP/1.1\r\nHost: docker\r\n"
FORM_TYPE = b"Content-Type: application/x-www-form-urlencoded\r\n"
TEXT_TYPE = b"Content-Type: text/plain\r\n"
# A form that dockerd prefers to the query: it imports from an address without a server.
FORM = b"fromImage=&fromSrc=http://127.0.0.1:9/x.tar&repo=busybox&tag=evil"
LENGTH = b"Content-Length: %d\r\n\r\n%s" % (len(FORM), FORM)
CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(FORM), FORM)
HIDDEN_FORMS = {
    "before another type": IMPORT + FORM_TYPE + TEXT_TYPE + LENGTH,
    "in chunks": IMPORT + FORM_TYPE + TEXT_TYPE + CHUNKS,
}
GET = b"GET /_ping HTTP/1.1\r\n"
READ_TWICE = {
    "two lengths": GET + b"Host: d\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "length and chunks": GET
    + b"Host: d\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two hosts": GET + b"Host: d\r\nHost: d\r\n\r\n",
    "folded header": GET + b"Host: d\r\nX: a\r\n b\r\n\r\n",
    "bare line feeds": b"GET /_ping HTTP/1.1\nHost: d\n\n\r\n\r\n",
    "whole address": b"GET http://d/_ping HTTP/1.1\r\nHost: d\r\n\r\n",
    "HTTP/1.0": b"GET /_ping HTTP/1.0\r\nHost: d\r\n\r\n",
}
CONNECT = f"import socket; socket.socket(socket.AF_UNIX).connect('{OWN_SOCKET}')"


@pytest.fixture(scope="module")
def hostile(yard: Yard, docker: Docker, busybox: bytes) -> Iterator[HostInfo]:
    """A host with the plugin and the reader, and an image in it."""
    yard.templates.apply(TEMPLATES["hostile"])
    read_host = yard.hosts.apply(SingleSpec("read", "hostile")).objects[0]
    docker(read_host, "import", "-", "busybox", stdin=busybox)
    yield read_host
    yard.hosts.delete("read")


def ask(host: HostInfo, data: bytes) -> tuple[int, bytes]:
    """The answer to raw bytes, over TLS."""
    environment = host.docker.environment
    target = urlsplit(environment["DOCKER_HOST"])
    plain = socket.create_connection((str(target.hostname), int(target.port or 0)), timeout=60)
    context = tls(Path(environment["DOCKER_CERT_PATH"]))
    with plain, context.wrap_socket(plain, server_hostname=target.hostname) as client:
        client.sendall(data)
        with http.client.HTTPResponse(client) as answer:
            answer.begin()
            return answer.status, answer.read()


@pytest.mark.parametrize("name", HIDDEN_FORMS)
def test_form_that_the_plugin_cannot_see_is_refused(
    hostile: HostInfo, fleet: list[HostInfo], name: str
) -> None:
    status, body = ask(hostile, HIDDEN_FORMS[name])
    assert (status, "sent twice" in json.loads(body)["message"]) == (400, True)
    # Without a reader dockerd reads the form: it imports.
    assert b"127.0.0.1:9" in ask(fleet[3], HIDDEN_FORMS[name])[1]


@pytest.mark.parametrize("name", READ_TWICE)
def test_request_with_two_readings_is_refused(hostile: HostInfo, name: str) -> None:
    status, body = ask(hostile, READ_TWICE[name])
    assert (status, list(json.loads(body))) == (400, ["message"])


def test_client_of_docker_works_through_the_reader(
    hostile: HostInfo, docker: Docker, tmp_path: Path
) -> None:
    loop = "while true; do echo tick; sleep 1; done"
    assert docker(hostile, "run", "--rm", "-i", "busybox", "cat", stdin=b"in\n").stdout == b"in\n"
    docker(hostile, "run", "-d", "--name", "long", "busybox", "sh", "-c", loop)
    assert docker(hostile, "exec", "-i", "long", "cat", stdin=b"exec\n").stdout == b"exec\n"
    # Only what is said from now on: it streams.
    for command in (("logs", "-f", "--tail", "0"), ("attach", "--no-stdin", "--sig-proxy=false")):
        assert docker.first_line(hostile, *command, "long") == b"tick\n"
    (tmp_path / "there").write_text("data")
    docker(hostile, "cp", str(tmp_path / "there"), "long:/file")
    docker(hostile, "cp", "long:/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "data"
    docker(hostile, "build", "-t", "built", "-", stdin=b"FROM busybox\nRUN echo built\n")
    assert b"exec_create" in docker(hostile, "events", "--since", "10m", "--until", "0s").stdout
    docker(hostile, "rm", "-f", "long")


@pytest.mark.full
def test_archive_of_500_mb_passes(hostile: HostInfo, docker: Docker, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as target:
        for _block in range(500):
            target.write(os.urandom(1 << 20))
    docker(hostile, "create", "--name", "large", "busybox", "true")
    docker(hostile, "cp", str(large), "large:/large", timeout=900)
    docker(hostile, "cp", "large:/large", str(tmp_path / "back"), timeout=900)
    docker(hostile, "rm", "large")
    assert (tmp_path / "back").stat().st_size == large.stat().st_size


def test_socket_of_dockerd_is_for_the_reader_alone(hostile: HostInfo) -> None:
    refused = ssh(hostile, f'python3 -c "{CONNECT}"')
    assert "PermissionError" in refused.stderr
    assert ssh(hostile, f'sudo python3 -c "{CONNECT}"').returncode == 0


def test_reader_answers_while_docker_is_off_and_serves_again(
    hostile: HostInfo, docker: Docker
) -> None:
    ping = GET + b"Host: d\r\n\r\n"
    assert ssh(hostile, "sudo systemctl stop docker.socket docker").returncode == 0
    try:
        status, body = ask(hostile, ping)
        assert (status, "Docker" in json.loads(body)["message"]) == (503, True)
    finally:
        ssh(hostile, "sudo systemctl start docker.socket docker")
    assert ask(hostile, ping)[0] == 200
    assert ssh(hostile, "sudo systemctl kill -s KILL stockyard-reader").returncode == 0
    assert ask(hostile, ping)[0] == 200


def test_reader_costs_less_than_5_ms_a_request(hostile: HostInfo) -> None:
    """The difference to dockerd's own socket, in turn."""
    program = f"""
import socket, time
def seconds(path):
    taken = []
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        for _number in range(40):
            begin = time.perf_counter()
            client.sendall(b"GET /_ping HTTP/1.1\\r\\nHost: d\\r\\n\\r\\n")
            answer = b""
            while not answer.endswith(b"OK"):
                answer += client.recv(4096)
            taken.append(time.perf_counter() - begin)
    return sorted(taken)[len(taken) // 2]
pairs = [(seconds("{OWN_SOCKET}"), seconds("/run/docker.sock")) for _turn in range(5)]
print(1000 * min(reader - direct for direct, reader in pairs))
"""
    milliseconds = float(ssh(hostile, "sudo python3 -", stdin=program).stdout)
    print("cost of a request:", milliseconds, "ms")
    assert milliseconds < 5
