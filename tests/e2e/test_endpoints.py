# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accepted and refused clients of a host's endpoints."""

from __future__ import annotations

import http.client
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stockyard import HostInfo, Yard
from stockyard.pki.authority import Authority
from tests.helpers.values import present

from .conftest import ssh

pytestmark = pytest.mark.real


@pytest.fixture
def host(fleet: list[HostInfo]) -> HostInfo:
    return fleet[0]


def ping(host: HostInfo, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection(host.address, 2376, context=context, timeout=20)
    try:
        connection.request("GET", "/_ping")
        return connection.getresponse().status
    finally:
        connection.close()


def trusting(ca: str) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=ca)


def with_client_of(authority: Authority, ca: str, folder: Path) -> ssl.SSLContext:
    certificate, key = authority.issue_client("stranger", datetime.now(UTC))
    (folder / "cert.pem").write_text(certificate.pem)
    (folder / "key.pem").write_text(key)
    context = trusting(ca)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def own_ca(host: HostInfo) -> str:
    return (Path(host.docker.environment["DOCKER_CERT_PATH"]) / "ca.pem").read_text()


def refused(host: HostInfo, context: ssl.SSLContext) -> bool:
    try:
        ping(host, context)
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        return True
    return False


def test_the_tenants_own_client_gets_in(host: HostInfo) -> None:
    context = trusting(own_ca(host))
    folder = Path(host.docker.environment["DOCKER_CERT_PATH"])
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    assert ping(host, context) == 200


def test_no_certificate_is_refused(host: HostInfo) -> None:
    assert refused(host, trusting(own_ca(host)))


def test_another_authoritys_client_is_refused(host: HostInfo, tmp_path: Path) -> None:
    foreign = Authority.create("foreign", datetime.now(UTC))
    assert refused(host, with_client_of(foreign, own_ca(host), tmp_path))


def test_another_tenants_client_is_refused(yard: Yard, host: HostInfo, tmp_path: Path) -> None:
    other_authority = yard.context.pki("other").authority(datetime.now(UTC))
    assert refused(host, with_client_of(other_authority, own_ca(host), tmp_path))


def test_a_hosts_own_certificate_opens_no_host(yard: Yard, host: HostInfo, tmp_path: Path) -> None:
    """An attacker who leaves a container has the key of that host; it must not open others."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
    )
    authority = yard.context.pki("default").authority(datetime.now(UTC))
    pem = csr.public_bytes(serialization.Encoding.PEM).decode()
    signed = authority.sign_server(pem, "web-9", "127.64.0.9", datetime.now(UTC))
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "cert.pem").write_text(signed.pem)
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*form))
    context = trusting(own_ca(host))
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    assert refused(host, context)


def test_the_certificate_is_for_this_address_alone(fleet: list[HostInfo]) -> None:
    context = trusting(own_ca(fleet[0]))
    raw = socket.create_connection((fleet[0].address, 2376), timeout=20)
    with raw, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(raw, server_hostname=fleet[1].address)


@pytest.mark.parametrize("port", [2375, 22, 8081])
def test_other_ports_are_closed(host: HostInfo, port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host.address, port), timeout=5)


def test_plain_http_is_not_answered(host: HostInfo) -> None:
    connection = http.client.HTTPConnection(host.address, 2376, timeout=20)
    connection.request("GET", "/_ping")
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        connection.getresponse()


def test_ssh_with_strict_host_keys(fleet: list[HostInfo]) -> None:
    result = ssh(fleet[1], "hostname")
    assert (result.stdout, result.returncode) == (fleet[1].name + "\n", 0), result.stderr


def test_ssh_refuses_swapped_endpoints(fleet: list[HostInfo], tmp_path: Path) -> None:
    first, second = fleet[0], fleet[1]
    swapped = {f"[{first.address}]": second, f"[{second.address}]": first}
    lines = [
        f"{where}:2222 {present(key_owner.identity).ssh_host_key}\n"
        for where, key_owner in swapped.items()
    ]
    (tmp_path / "known_hosts").write_text("".join(lines))
    for host in (first, second):
        result = ssh(host, "hostname", known_hosts=str(tmp_path / "known_hosts"))
        assert result.returncode == 255
        assert "Host key verification failed" in result.stderr
