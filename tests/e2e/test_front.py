# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The TLS front of a real host: sessions are not resumed, and many connections neither stop it nor
cost the host.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stockyard import HostInfo, Yard
from stockyard.resources.hosts import health

from .conftest import ssh

pytestmark = pytest.mark.real
VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}
PING = b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n"
# More than stunnel accepts with the usual limit of 1,024 descriptors, which is 500.
MANY = 1100


def context(folder: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    tls_context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    tls_context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    tls_context.minimum_version = tls_context.maximum_version = version
    return tls_context


def ping(
    host: HostInfo, tls_context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[bool, ssl.SSLSession | None]:
    """Whether a session was resumed, and the one to resume.

    :raises OSError: when the host does not let the client in.
    """
    target = urlsplit(host.docker.environment["DOCKER_HOST"])
    plain = socket.create_connection((str(target.hostname), int(target.port or 0)), timeout=60)
    with (
        plain,
        tls_context.wrap_socket(plain, server_hostname=target.hostname, session=session) as client,
    ):
        client.sendall(PING)
        answer = client.recv(4096)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(answer)
        # TLS 1.3 sends what is needed to resume behind the handshake.
        return bool(client.session_reused), client.session


def certificates(host: HostInfo) -> Path:
    return Path(host.docker.environment["DOCKER_CERT_PATH"])


@pytest.mark.parametrize("name", VERSIONS)
def test_tls_session_of_a_client_is_not_resumed(fleet: list[HostInfo], name: str) -> None:
    tls_context = context(certificates(fleet[0]), VERSIONS[name])
    _resumed, session = ping(fleet[0], tls_context)
    for _number in range(2):
        resumed, session = ping(fleet[0], tls_context, session)
        assert not resumed


@pytest.fixture(scope="module")
def expired(
    yard: Yard, fleet: list[HostInfo], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[ssl.SSLContext, ssl.SSLSession | None]]:
    """A certificate that was accepted until it expired, and the session of each version of TLS."""
    folder = tmp_path_factory.mktemp("expired")
    end = datetime.now(UTC) + timedelta(seconds=10)
    authority = yard.context.pki("default").authority(datetime.now(UTC))
    certificate, key = authority.issue_until("short", datetime.now(UTC), end)
    (folder / "cert.pem").write_text(certificate.pem)
    (folder / "key.pem").write_text(key)
    shutil.copy(certificates(fleet[0]) / "ca.pem", folder)
    contexts = {name: context(folder, version) for name, version in VERSIONS.items()}
    sessions = {
        name: (tls_context, ping(fleet[0], tls_context)[1])
        for name, tls_context in contexts.items()
    }
    time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()) + 2)
    return sessions


@pytest.mark.parametrize("name", VERSIONS)
def test_expired_certificate_with_a_session_is_refused(
    fleet: list[HostInfo],
    expired: dict[str, tuple[ssl.SSLContext, ssl.SSLSession | None]],
    name: str,
) -> None:
    tls_context, session = expired[name]
    with pytest.raises((OSError, ssl.SSLError)):
        ping(fleet[0], tls_context, session)


@pytest.fixture
def crowd(fleet: list[HostInfo]) -> Iterator[list[socket.socket]]:
    """Connections that are held open: each takes a place in the front from the first byte on."""
    target = urlsplit(fleet[1].docker.environment["DOCKER_HOST"])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        place = (str(target.hostname), int(target.port or 0))
        clients = []
        for _number in range(MANY):
            clients.append(stack.enter_context(socket.create_connection(place, timeout=60)))
            # QEMU lets one connection wait to be accepted: a burst would lose a second for each.
            time.sleep(0.01)
        yield clients


def test_host_with_many_connections_answers_and_drops_none(
    fleet: list[HostInfo], crowd: list[socket.socket]
) -> None:
    tls_context = context(certificates(fleet[1]), ssl.TLSVersion.TLSv1_3)
    assert ping(fleet[1], tls_context)[0] is False
    dropped = 0
    for client in crowd:
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            dropped += client.recv(1) == b""
    assert dropped == 0


def test_host_with_a_stopped_front_is_kept_and_one_without_docker_is_replaced(
    yard: Yard, fleet: list[HostInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the word of the agent inside."""
    monkeypatch.setattr(health, "PATIENCE", 2.0)
    host = fleet[2]
    records = [
        h
        for h in yard.context.provider.observe(yard.context.owner).hosts
        if h.record.name == host.name
    ]
    assert ssh(host, "sudo systemctl stop stockyard-tls").returncode == 0
    try:
        assert health.unhealthy(yard.context, "default", records) == {}
        assert ssh(host, "sudo systemctl stop docker.socket docker").returncode == 0
        assert list(health.unhealthy(yard.context, "default", records)) == [host.name]
    finally:
        ssh(host, "sudo systemctl start docker.socket docker stockyard-tls")
    assert health.unhealthy(yard.context, "default", records) == {}
