# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Docker answers: real TLS on a loopback address, with what stands in for dockerd behind
it.
"""

from __future__ import annotations

import http.server
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stockyard.clock import Deadline
from stockyard.errors import DeadlineExceeded, GuestError
from stockyard.model.host import DOCKER_PORT, HostRecord
from stockyard.pki.authority import Authority
from stockyard.pki.store import Pki
from stockyard.resources.hosts import docker_api
from stockyard.resources.hosts.docker_api import wait_for_docker
from stockyard.resources.hosts.reservation import address_of
from tests.helpers.samples import host_record

NOW = datetime.now(UTC)
Serve = Callable[..., HostRecord]


class Ping(http.server.BaseHTTPRequestHandler):
    """Answers as its server says."""

    def do_GET(self) -> None:
        server = self.server
        statuses: list[int] = server.statuses  # type: ignore[attr-defined]
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        return


class Server(http.server.ThreadingHTTPServer):
    """Keeps what failed handshakes have to say to itself."""

    def handle_error(self, request: object, client_address: object) -> None:
        return


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "tenant", "owner/tenant")


@pytest.fixture
def serve(tmp_path: Path, pki: Pki) -> Iterator[Serve]:
    """Starts a front on an address of its own."""
    running: list[Server] = []

    def start(
        authority: Authority | None = None, named: str = "", statuses: tuple[int, ...] = (200,)
    ) -> HostRecord:
        signer = authority or pki.authority(NOW)
        record = host_record(address=address_of(uuid.uuid4()))
        key = ec.generate_private_key(ec.SECP256R1())
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([]))
            .sign(key, hashes.SHA256())
        )
        pem = request.public_bytes(serialization.Encoding.PEM).decode()
        certificate = signer.sign_server(pem, record.name, named or record.address, NOW)
        form = (
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (tmp_path / "front.pem").write_text(certificate.pem + key.private_bytes(*form).decode())
        (tmp_path / "front-ca.pem").write_text(signer.pem())
        context = ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "front-ca.pem")
        )
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(tmp_path / "front.pem")
        server = Server((record.address, DOCKER_PORT), Ping)
        server.statuses = list(statuses)  # type: ignore[attr-defined]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        running.append(server)
        return record

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def test_docker_that_answers_is_reached(serve: Serve, pki: Pki) -> None:
    wait_for_docker(serve(), pki.client(NOW), Deadline(10))


def test_docker_that_is_not_ready_yet_is_asked_again(serve: Serve, pki: Pki) -> None:
    wait_for_docker(serve(statuses=(503, 500, 200)), pki.client(NOW), Deadline(10))


def test_docker_that_never_gets_ready_is_an_error_with_the_reason(serve: Serve, pki: Pki) -> None:
    with pytest.raises(DeadlineExceeded, match="returned status 503"):
        wait_for_docker(serve(statuses=(503,)), pki.client(NOW), Deadline(1.5))


def test_unreachable_docker_is_an_error_with_the_reason(pki: Pki) -> None:
    record = host_record(address=address_of(uuid.uuid4()))
    with pytest.raises(DeadlineExceeded, match="refused") as caught:
        wait_for_docker(record, pki.client(NOW), Deadline(0.2))
    assert caught.value.name == record.title


def test_certificate_of_another_authority_is_refused(serve: Serve, pki: Pki) -> None:
    with pytest.raises(DeadlineExceeded, match="certificate verify failed"):
        wait_for_docker(serve(Authority.create("impostor", NOW)), pki.client(NOW), Deadline(0.3))


def test_certificate_for_another_address_is_refused(serve: Serve, pki: Pki) -> None:
    with pytest.raises(DeadlineExceeded, match="IP address mismatch"):
        wait_for_docker(serve(named="127.0.0.99"), pki.client(NOW), Deadline(0.3))


def test_wait_ends_with_the_words_of_a_unit_that_gave_up(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_api, "LOOK", 0.1)
    answers = iter(["", "docker.service failed: no space left on device"])
    record = host_record(address=address_of(uuid.uuid4()))
    with pytest.raises(GuestError, match="no space left on device") as caught:
        wait_for_docker(record, pki.client(NOW), Deadline(60), lambda: next(answers))
    assert caught.value.name == record.title
