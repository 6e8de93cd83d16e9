# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every HTTP client of the product keeps one deadline and one size limit for a whole answer."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stockyard.clock import Deadline
from stockyard.errors import StockyardError
from stockyard.integrations.jenkins import client as jenkins
from stockyard.model.cloud_image import CloudImage
from stockyard.model.login import Login
from stockyard.model.preload import Reference
from stockyard.pki.authority import Authority
from stockyard.providers.common import cloud_images, registry_images
from stockyard.providers.vsphere import rest, session, soap
from stockyard.providers.vsphere.place import parse
from stockyard.resources.hosts import docker_api
from stockyard.web import Bounds, Connection, opener
from tests.helpers import hostile_servers

NOW = datetime.now(UTC)
TIME, SLACK = 0.6, 2.5
SMALL = 1 << 20
ENDLESS = [
    hostile_servers.slow_head,
    hostile_servers.slow_body,
    hostile_servers.endless_head,
    hostile_servers.endless_continue,
    hostile_servers.endless_body,
    hostile_servers.endless_chunks,
    hostile_servers.huge_length,
    hostile_servers.huge_chunk,
    hostile_servers.negative_chunk,
]
# Errors that a client may raise: its own, or that of a peer with an invalid answer.
Failures = (OSError, http.client.HTTPException, StockyardError)
Client = Callable[[int, Path], object]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("test", NOW)


@pytest.fixture(scope="module")
def ca(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_text(authority.pem())
    return path


@pytest.fixture(scope="module")
def front(authority: Authority, ca: Path) -> ssl.SSLContext:
    """A server's certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
    )
    pem = request.public_bytes(serialization.Encoding.PEM).decode()
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = ca.parent / "front.pem"
    path.write_text(
        authority.sign_server(pem, "web", "127.0.0.1", NOW).pem + key.private_bytes(*form).decode()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch, ca: Path) -> None:
    """Small limits, so that the tests are short."""
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    monkeypatch.setattr(docker_api, "LONGEST_ANSWER", SMALL)
    monkeypatch.setattr(jenkins, "ANSWER_WITHIN", TIME)
    monkeypatch.setattr(jenkins, "LONGEST_ANSWER", SMALL)
    monkeypatch.setattr(rest, "PATIENCE", TIME)
    monkeypatch.setattr(rest, "LONGEST", SMALL)
    monkeypatch.setattr(session, "CONNECT", TIME)
    monkeypatch.setattr(soap, "ANSWER", TIME)
    monkeypatch.setattr(soap, "LONGEST", SMALL)
    monkeypatch.setattr(cloud_images, "LARGEST", SMALL)
    monkeypatch.setattr(registry_images, "LARGEST_MANIFEST", SMALL)
    monkeypatch.setattr(registry_images, "LARGEST_BLOB", SMALL)


def ask_ping(port: int, ca: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(docker_api, "DOCKER_PORT", port)
        docker_api.ping("127.0.0.1", ssl.create_default_context(cafile=str(ca)), TIME)
    return None


def ask_containers(port: int, ca: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(docker_api, "DOCKER_PORT", port)
        return docker_api.running("127.0.0.1", ssl.create_default_context(cafile=str(ca)), TIME)


def ask_jenkins(port: int, ca: Path) -> object:
    return jenkins.Controller(f"https://127.0.0.1:{port}", ca_path=str(ca)).nodes()


def ask_vcenter(port: int, ca: Path) -> object:
    place = parse(f"vsphere://127.0.0.1:{port}/dc/cluster", {})
    with rest.Rest(place, Login("u", "p"), ssl.create_default_context(cafile=str(ca))):
        return None


def knock_vcenter(port: int, ca: Path) -> object:
    place = parse(f"vsphere://127.0.0.1:{port}/dc/cluster", {})
    return session.Session(place, Login("u", "p", ca_path=str(ca)))


def call_vcenter(port: int, ca: Path) -> object:
    connection = soap.SoapConnection("127.0.0.1", port, ssl.create_default_context(cafile=str(ca)))
    return connection.exchange("POST", "/sdk", b"<x/>")


def fetch_image(port: int, ca: Path) -> object:
    image = CloudImage(f"https://127.0.0.1:{port}/disk.qcow2", f"sha256:{'0' * 64}")
    cloud_images.fetch(image, ca.parent / "disk.qcow2", "", Deadline(TIME))
    return None


def fetch_preload(port: int, ca: Path) -> object:
    source = Reference(f"https://127.0.0.1:{port}", "team/app", "0" * 64)
    registry_images.fetch(source, "app", ca.parent / "app.tar", Deadline(TIME))
    return None


CLIENTS: list[Client] = [
    ask_ping,
    ask_containers,
    ask_jenkins,
    ask_vcenter,
    knock_vcenter,
    call_vcenter,
    fetch_image,
    fetch_preload,
]


@pytest.mark.parametrize("script", ENDLESS, ids=lambda s: s.__name__)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.__name__)
def test_client_of_an_endless_answer_fails_in_time(
    client: Client, script: hostile_servers.Script, front: ssl.SSLContext, ca: Path
) -> None:
    with hostile_servers.served(script, front) as port:
        begin = time.monotonic()
        with pytest.raises(Failures):
            client(port, ca)
        assert time.monotonic() - begin < TIME + SLACK


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.__name__)
def test_client_of_an_unfinished_handshake_fails_in_time(client: Client, ca: Path) -> None:
    with hostile_servers.served(lambda: [(0.0, b"\x16"), (60.0, b"")]) as port:
        begin = time.monotonic()
        with pytest.raises(Failures):
            client(port, ca)
        assert time.monotonic() - begin < TIME + SLACK


def test_connection_whose_bounds_are_kept_returns_the_whole_answer(
    front: ssl.SSLContext, ca: Path
) -> None:
    body = b"x" * (SMALL - 1)
    head = hostile_servers.HEAD + f"X-One: 1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with hostile_servers.served(
        lambda: [(0.0, head[:20]), (0.2, head[20:] + body[:9]), (0.2, body[9:])], front
    ) as port:
        bounds, context = Bounds(Deadline(10), SMALL), ssl.create_default_context(cafile=ca)
        answer = Connection("127.0.0.1", port, bounds=bounds, context=context).exchange("GET", "/")
    assert (answer.status, answer.headers["x-one"], answer.body) == (200, "1", body)


def test_connection_that_is_cut_off_reports_an_incomplete_answer() -> None:
    with (
        hostile_servers.served(
            lambda: [(0.0, hostile_servers.HEAD + b"Content-Length: 5\r\n\r\nabc")]
        ) as port,
        pytest.raises(http.client.IncompleteRead),
    ):
        Connection("127.0.0.1", port, bounds=Bounds(Deadline(10), SMALL)).exchange("GET", "/")


def test_connection_that_sends_to_a_deaf_peer_fails_in_time() -> None:
    with hostile_servers.served(lambda: [(60.0, b"")]) as port:
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            Connection("127.0.0.1", port, bounds=Bounds(Deadline(TIME), SMALL)).exchange(
                "POST", "/", b"x" * (1 << 26)
            )
        assert time.monotonic() - begin < TIME + SLACK


def test_opener_that_is_redirected_keeps_its_deadline() -> None:
    with hostile_servers.served(hostile_servers.slow_body) as slow:
        location = f"Location: http://127.0.0.1:{slow}/\r\n"
        moved = f"HTTP/1.1 302 Found\r\n{location}Content-Length: 0\r\n\r\n".encode()
        with hostile_servers.served(lambda: [(0.3, moved)]) as port:
            begin = time.monotonic()
            with pytest.raises(TimeoutError):
                opener(Bounds(Deadline(TIME), SMALL)).open(f"http://127.0.0.1:{port}/").read()
            assert time.monotonic() - begin < TIME + SLACK


def test_opener_that_is_redirected_to_another_protocol_refuses() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1/x\r\nContent-Length: 0\r\n\r\n"
    with (
        hostile_servers.served(lambda: [(0.0, moved)]) as port,
        pytest.raises(OSError, match="unknown url type"),
    ):
        opener(Bounds(Deadline(10), SMALL)).open(f"http://127.0.0.1:{port}/")
