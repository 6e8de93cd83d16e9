# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates for a simulated vCenter: a good one, one that has expired, and one of an unknown
authority.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KINDS = ("good", "expired", "unknown")


def make(directory: Path, kind: str) -> tuple[Path, Path, Path]:
    """Write a server's certificate and key, and the CA that clients are told; returns the three
    paths.
    """
    if kind not in KINDS:
        raise ValueError(f"no certificate is {kind}: there are {KINDS}")
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _number in range(2))
    authority = _signed("vcsim CA", authority_key, "vcsim CA", authority_key, expired=False)
    server = _signed("vcsim", key, "vcsim CA", authority_key, expired=kind == "expired")
    if kind == "unknown":
        second_key = ec.generate_private_key(ec.SECP256R1())
        authority = _signed("vcsim CA", second_key, "vcsim CA", second_key, expired=False)
    paths = directory / "server.pem", directory / "server.key", directory / "ca.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    paths[0].write_bytes(server.public_bytes(pem))
    paths[1].touch(0o600)
    paths[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    paths[2].write_bytes(authority.public_bytes(pem))
    return paths


def _signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    expired: bool,
) -> x509.Certificate:
    own = key is issuer_key
    begin = datetime.now(UTC) - timedelta(days=30)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    identifier = x509.SubjectKeyIdentifier.from_public_key(issuer_key.public_key())
    usage = x509.KeyUsage(True, False, False, False, False, own, own, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=29 if expired else 365))
        .add_extension(x509.BasicConstraints(ca=own, path_length=0 if own else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(identifier.digest, None, None), critical=False)
    )
    if not own:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())
