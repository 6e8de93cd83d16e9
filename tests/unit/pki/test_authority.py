# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of an authority: validity, and refused requests."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stockyard.errors import GuestError, InvalidInput
from stockyard.pki.authority import CA_DAYS, CLIENT_DAYS, SERVER_DAYS, SKEW, Authority

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CN = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "evil")])


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("stockyard owner/tenant", NOW)


def request(key: Any, algorithm: Any = None) -> str:
    """A certificate request that asks for more than it should get."""
    names = x509.SubjectAlternativeName(
        [x509.DNSName("evil.example"), x509.IPAddress(ipaddress.ip_address("10.0.0.1"))]
    )
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(CN)
        .add_extension(names, critical=False)
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def usages(certificate: x509.Certificate) -> list[Any]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def key_pem(key: Any) -> str:
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return str(key.private_bytes(*form).decode())


def ca(
    key: Any, constraints: x509.BasicConstraints | None = None, end: timedelta = timedelta(days=30)
) -> str:
    """A certificate of another program."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(CN)
        .issuer_name(CN)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=60))
        .not_valid_after(NOW + end)
    )
    if constraints:
        builder = builder.add_extension(constraints, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


CA_TRUE = x509.BasicConstraints(ca=True, path_length=None)


def test_a_server_certificate_has_our_names_and_the_guests_key(authority: Authority) -> None:
    key = p256()
    signed = authority.sign_server(request(key, hashes.SHA256()), "web-1", "127.64.1.2", NOW)
    certificate = load(signed.pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert certificate.public_key() == key.public_key()
    assert names.get_values_for_type(x509.DNSName) == ["web-1", "localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == [
        "127.64.1.2",
        "127.0.0.1",
    ]
    assert certificate.subject.rfc4514_string() == "CN=web-1"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert usages(certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]
    certificate.verify_directly_issued_by(authority.certificate)
    assert signed.serial == f"{certificate.serial_number:x}"
    assert signed.not_after == certificate.not_valid_after_utc.timestamp()


def test_a_client_certificate_is_for_clients_alone(authority: Authority) -> None:
    signed, key = authority.issue_client("operator", NOW)
    certificate = load(signed.pem)
    private = serialization.load_pem_private_key(key.encode(), None)
    assert private.public_key() == certificate.public_key()
    assert usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_every_certificate_has_its_term_and_a_clock_may_be_a_little_off(
    authority: Authority,
) -> None:
    server = load(
        authority.sign_server(request(p256(), hashes.SHA256()), "a", "127.0.0.1", NOW).pem
    )
    client = load(authority.issue_client("a", NOW)[0].pem)
    for certificate, days in (
        (authority.certificate, CA_DAYS),
        (server, SERVER_DAYS),
        (client, CLIENT_DAYS),
    ):
        assert certificate.not_valid_before_utc == NOW - SKEW
        assert certificate.not_valid_after_utc == NOW + timedelta(days=days)


def test_nothing_outlives_its_authority(authority: Authority) -> None:
    late = NOW + timedelta(days=CA_DAYS - 1)
    end = authority.certificate.not_valid_after_utc
    assert load(authority.issue_client("a", late)[0].pem).not_valid_after_utc == end
    signed = authority.sign_server(request(p256(), hashes.SHA256()), "a", "127.0.0.1", late)
    assert load(signed.pem).not_valid_after_utc == end


def test_expired_authority_is_an_error(authority: Authority) -> None:
    with pytest.raises(InvalidInput, match="expired on 2036-11-19"):
        authority.issue_client("a", NOW + timedelta(days=CA_DAYS))


def test_serial_numbers_differ(authority: Authority) -> None:
    assert len({authority.issue_client("a", NOW)[0].serial for _number in range(5)}) == 5


def swapped() -> str:
    """A request for one key, signed with another."""
    honest, other_key = request(p256(), hashes.SHA256()), p256()
    der = x509.load_pem_x509_csr(honest.encode()).public_bytes(serialization.Encoding.DER)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    public_key = x509.load_pem_x509_csr(honest.encode()).public_key().public_bytes(*form)
    return pem(der.replace(public_key, other_key.public_key().public_bytes(*form)))


def unknown_key() -> str:
    """A request with a key of an unknown kind."""
    der = x509.load_pem_x509_csr(request(p256(), hashes.SHA256()).encode()).public_bytes(
        serialization.Encoding.DER
    )
    known = bytes.fromhex("06072a8648ce3d0201")
    assert known in der
    return pem(der.replace(known, bytes.fromhex("06072a8648ce3d027f")))


def pem(der: bytes) -> str:
    import base64

    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize(
    "make",
    [
        lambda: "",
        lambda: "garbage",
        lambda: "\ud800",
        lambda: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        lambda: ca(p256(), CA_TRUE),
        lambda: request(rsa.generate_private_key(65537, 2048), hashes.SHA256()),
        lambda: request(ed25519.Ed25519PrivateKey.generate()),
        lambda: request(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
        lambda: request(ec.generate_private_key(ec.SECP256K1()), hashes.SHA256()),
        swapped,
        unknown_key,
    ],
    ids=[
        "empty",
        "garbage",
        "surrogate",
        "no-der",
        "certificate",
        "rsa",
        "ed25519",
        "p384",
        "secp256k1",
        "swapped",
        "unknown-key",
    ],
)
def test_foreign_signing_request_is_refused(authority: Authority, make: Callable[[], str]) -> None:
    with pytest.raises(GuestError):
        authority.sign_server(make(), "web-1", "127.0.0.1", NOW)


def test_key_of_a_server_is_certified_again_and_no_other(authority: Authority) -> None:
    key = p256()
    first = authority.sign_server(request(key, hashes.SHA256()), "web-1", "127.0.0.1", NOW)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert first.key == hashlib.sha256(key.public_key().public_bytes(*form)).hexdigest()
    renewed = authority.sign_server(
        request(key, hashes.SHA256()), "web-1", "127.0.0.1", NOW, certified_key=first.key
    )
    assert renewed.key == first.key
    with pytest.raises(GuestError, match="another key than its own") as caught:
        authority.sign_server(
            request(p256(), hashes.SHA256()), "web-1", "127.0.0.1", NOW, certified_key=first.key
        )
    assert first.key in caught.value.cause
    assert "replace it" in caught.value.remedy


def test_supplied_key_pair_is_used_unchanged(authority: Authority) -> None:
    loaded = Authority.from_pem(authority.pem(), authority.key_pem())
    assert (loaded.pem(), loaded.key_pem()) == (authority.pem(), authority.key_pem())


def test_a_wrong_pair_is_refused(authority: Authority) -> None:
    with pytest.raises(InvalidInput, match="the CA's certificate and key do not match"):
        Authority.from_pem(authority.pem(), Authority.create("other", NOW).key_pem())


def test_an_rsa_key_is_refused() -> None:
    key = rsa.generate_private_key(65537, 2048)
    with pytest.raises(InvalidInput, match="elliptic curve"):
        Authority.from_pem(ca(key, CA_TRUE), key_pem(key))


def test_a_key_under_a_passphrase_is_refused() -> None:
    key = p256()
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    with pytest.raises(InvalidInput, match="unencrypted"):
        Authority.from_pem(ca(key, CA_TRUE), locked.decode())


@pytest.mark.parametrize("constraints", [None, x509.BasicConstraints(ca=False, path_length=None)])
def test_a_certificate_that_may_not_sign_is_refused(
    constraints: x509.BasicConstraints | None,
) -> None:
    key = p256()
    with pytest.raises(InvalidInput, match="the CA's certificate is not a CA certificate"):
        Authority.from_pem(ca(key, constraints), key_pem(key))


def test_authority_without_a_key_identifier_signs() -> None:
    key = p256()
    authority = Authority.from_pem(ca(key, CA_TRUE), key_pem(key))
    load(authority.issue_client("a", NOW)[0].pem).verify_directly_issued_by(authority.certificate)
