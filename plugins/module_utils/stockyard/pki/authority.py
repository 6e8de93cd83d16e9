# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate authority of a tenant: the certificates and lists that it signs, and their
lifetimes. It accesses no files.

The cryptography library does the work.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..errors import GuestError, InvalidInput

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    from cryptography.x509.oid import NameOID
except ImportError:  # Pki reports it before anything here is called
    pass

CA_DAYS = 3650
SERVER_DAYS = 365
CLIENT_DAYS = 90
SKEW = timedelta(minutes=5)
# A certificate is renewed when less than this part of its life remains.
RENEW_PART = 1 / 3
# Separates these keys from all others that may ever be derived from a CA's key.
LEASES = b"stockyard lease authority 1"
# FIPS 186-5: the order of P-256.
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class Certificate:
    """A signed certificate, as PEM, with the facts that records contain.

    :param key: the SHA-256 of its public key (SubjectPublicKeyInfo), in hex.
    """

    pem: str
    serial: str
    not_after: float
    key: str


class Authority:
    """A certificate authority of one tenant."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self.key = key

    @classmethod
    def create(cls, name: str, current_time: datetime) -> Authority:
        """Return a new authority with a P-256 key, valid for ten years."""
        return cls._of_its_own(
            _name(name),
            ec.generate_private_key(ec.SECP256R1()),
            current_time,
            timedelta(days=CA_DAYS),
        )

    @classmethod
    def _of_its_own(
        cls,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        current_time: datetime,
        life: timedelta,
    ) -> Authority:
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        builder = _builder(subject, subject, key.public_key(), current_time, life).add_extension(
            constraints, critical=True
        )
        return cls(_sign(builder.add_extension(_usage(ca=True), critical=True), key), key)

    @classmethod
    def from_pem(cls, certificate: str, key: str) -> Authority:
        """Return an authority from PEM texts.

        :raises InvalidInput: if the texts cannot be read or do not belong together.
        """
        try:
            ca_certificate = x509.load_pem_x509_certificate(certificate.encode())
            private_key = serialization.load_pem_private_key(key.encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InvalidInput(
                "the CA cannot be read.", cause=str(error), remedy="set both as unencrypted PEM"
            ) from error
        if not isinstance(private_key, ec.EllipticCurvePrivateKey):
            raise InvalidInput(
                "the CA's key is not an elliptic curve key.", remedy="use a P-256 key"
            )
        if private_key.public_key() != ca_certificate.public_key():
            raise InvalidInput(
                "the CA's certificate and key do not match.",
                remedy="set a matching pair",
            )
        if not _may_sign(ca_certificate):
            raise InvalidInput(
                "the CA's certificate is not a CA certificate.",
                remedy="set a certificate with CA:TRUE",
            )
        if not _may_revoke(ca_certificate):
            raise InvalidInput(
                "the CA's certificate does not allow lists of revoked certificates.",
                remedy="set a certificate whose key usage contains cRLSign",
            )
        return cls(ca_certificate, private_key)

    def pem(self) -> str:
        """Return the authority's certificate, as PEM."""
        return _pem(self.certificate)

    def key_pem(self) -> str:
        """Return the authority's private key, as PEM."""
        return _key_pem(self.key)

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the certificate, in hex: records refer to the authority by it."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def server_life(self, current_time: datetime, days: int = SERVER_DAYS) -> timedelta:
        """Return how long a server certificate would last if it were signed now.

        :raises InvalidInput: if the authority itself has expired.
        """
        return (
            min(current_time + timedelta(days=days), _end_of(self.certificate, current_time))
            - current_time
        )

    def sign_server(
        self,
        csr_pem: str,
        hostname: str,
        address: str,
        current_time: datetime,
        days: int = SERVER_DAYS,
        *,
        certified_key: str = "",
        published_address: str = "",
    ) -> Certificate:
        """Return a server certificate for the key in a request; the names come from the controller,
        never from the request. Tunnels end at this machine's loopback, so the certificate contains
        that too.

        :param certified_key: the digest of the only key that gets a certificate; any key if empty.
        :param published_address: the address at which other machines reach the host; empty if it
            is not published.
        :raises GuestError: if the text is not a request, is signed with another key, or contains
            another key than the certified one.
        """
        try:
            csr = x509.load_pem_x509_csr(csr_pem.encode())
            valid, key = csr.is_signature_valid, csr.public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise GuestError(
                "the guest sent no certificate request.", name=f"host {hostname}", cause=str(error)
            ) from error
        if (
            not valid
            or not isinstance(key, ec.EllipticCurvePublicKey)
            or not isinstance(key.curve, ec.SECP256R1)
        ):
            raise GuestError(
                "the guest's certificate request is not signed with its own P-256 key.",
                name=f"host {hostname}",
            )
        if certified_key and _digest(key) != certified_key:
            raise GuestError(
                "the guest requests a certificate for another key than its own.",
                name=f"host {hostname}",
                cause=f"the certified key has SHA-256 {certified_key}, this one {_digest(key)}",
                remedy="examine the host, then replace it",
            )
        names = x509.SubjectAlternativeName(
            [
                *(x509.DNSName(name) for name in dict.fromkeys((hostname, "localhost"))),
                *(
                    x509.IPAddress(ipaddress.ip_address(place))
                    for place in dict.fromkeys((address, "127.0.0.1", published_address))
                    if place
                ),
            ]
        )
        life = timedelta(days=days)
        builder = _builder(
            _name(hostname), self.certificate.subject, key, current_time, life, self.certificate
        )
        return self._issue(builder.add_extension(names, critical=False), "server")

    def issue_client(
        self, name: str, current_time: datetime, days: int = CLIENT_DAYS
    ) -> tuple[Certificate, str]:
        """Return a client certificate with a new key, and the key as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._client(name, key, current_time, timedelta(days=days)), _key_pem(key)

    def of_leases(self, host: str, current_time: datetime) -> Authority:
        """Return the authority whose client certificates open one host and no other.

        Its key is derived from this authority's key, so it is stored nowhere: every controller with
        this authority can derive it again. It is no intermediate of this authority: a host that
        trusts only this authority refuses its clients.

        :param host: the host's uuid.
        """
        life = _end_of(self.certificate, current_time) - current_time
        return self._of_its_own(
            _name(f"stockyard leases {host}"), _derived(self.key, host), current_time, life
        )

    def issue_until(
        self, name: str, current_time: datetime, until: datetime, key: str = ""
    ) -> tuple[Certificate, str]:
        """Return a client certificate that ends at a moment, and its key as PEM.

        :param key: the key for the certificate, as PEM; a new key is created if it is empty or no
            P-256 key.
        """
        private_key = _private(key) or ec.generate_private_key(ec.SECP256R1())
        return self._client(name, private_key, current_time, until - current_time), _key_pem(
            private_key
        )

    def _client(
        self, name: str, key: ec.EllipticCurvePrivateKey, current_time: datetime, life: timedelta
    ) -> Certificate:
        return self._issue(
            _builder(
                _name(name),
                self.certificate.subject,
                key.public_key(),
                current_time,
                life,
                self.certificate,
            ),
            "client",
        )

    def sign_crl(self, serials: Iterable[str], current_time: datetime) -> str:
        """Return the list of revoked certificates, as PEM. It lasts as long as the authority: a
        host never refuses every client only because it did not get a newer list.

        :param serials: in hex.
        """
        # Dated one day back, so that a guest whose clock is behind accepts the list.
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(current_time - timedelta(days=1)).next_update(
            _end_of(self.certificate, current_time)
        )
        for serial in sorted(serials):
            entry = (
                x509.RevokedCertificateBuilder()
                .serial_number(int(serial, 16))
                .revocation_date(current_time)
            )
            builder = builder.add_revoked_certificate(entry.build())
        number = x509.CRLNumber(int(current_time.timestamp()))
        crl = builder.add_extension(number, critical=False).sign(self.key, hashes.SHA256())
        return crl.public_bytes(serialization.Encoding.PEM).decode()

    def _issue(self, builder: x509.CertificateBuilder, role: str) -> Certificate:
        oid = x509.oid.ExtendedKeyUsageOID
        purpose = oid.SERVER_AUTH if role == "server" else oid.CLIENT_AUTH
        builder = builder.add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        certificate = _sign(builder.add_extension(_usage(ca=False), critical=True), self.key)
        return Certificate(
            _pem(certificate),
            f"{certificate.serial_number:x}",
            certificate.not_valid_after_utc.timestamp(),
            _digest(certificate.public_key()),
        )


def _digest(key: Any) -> str:
    """Return the SHA-256 of a public key, in hex."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(encoding, form)).hexdigest()


def _name(common_name: str) -> x509.Name:
    # X.509 allows 64 bytes (ub-common-name of RFC 5280).
    shortened_name = common_name.encode()[:64].decode(errors="ignore")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, shortened_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    current_time: datetime,
    life: timedelta,
    signer: x509.Certificate | None = None,
) -> x509.CertificateBuilder:
    """Return the common part of all certificates; no certificate outlives its signer."""
    end = current_time + life
    if signer is not None:
        end = min(end, _end_of(signer, current_time))
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(current_time - SKEW)
        .not_valid_after(end)
    )
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return builder if signer is None else _linked(builder, signer)


def _end_of(signer: x509.Certificate, current_time: datetime) -> datetime:
    end = signer.not_valid_after_utc
    if end <= current_time:
        raise InvalidInput(
            f"the CA expired on {end:%Y-%m-%d}.",
            name=signer.subject.rfc4514_string(),
            remedy="move the CA away, or set another CA: hosts then get new certificates in place",
        )
    return end


def _linked(builder: x509.CertificateBuilder, signer: x509.Certificate) -> x509.CertificateBuilder:
    """Add the signer's key identifier, if it has one: a CA that the user gave may have none."""
    try:
        identifier = signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return builder
    link = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    return builder.add_extension(link, critical=False)


def _derived(key: ec.EllipticCurvePrivateKey, host: str) -> ec.EllipticCurvePrivateKey:
    """Return a P-256 key for one host (RFC 5869). It cannot be derived without the
    authority's key.
    """
    numbers = key.private_numbers()
    secret = numbers.private_value.to_bytes((key.curve.key_size + 7) // 8, "big")
    # 64 bits more than the order needs make the bias of the reduction negligible (FIPS 186-5,
    # A.2.1).
    material = HKDF(hashes.SHA256(), 40, LEASES, host.encode("ascii")).derive(secret)
    return ec.derive_private_key(
        int.from_bytes(material, "big") % (P256_ORDER - 1) + 1, ec.SECP256R1()
    )


def _private(pem: str) -> ec.EllipticCurvePrivateKey | None:
    """Return a P-256 key from PEM; ``None`` for any other text."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return (
        key
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
        else None
    )


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _may_revoke(certificate: x509.Certificate) -> bool:
    """Return whether the key usage of a CA allows lists of revoked certificates. TLS servers refuse
    every client if their list is signed by a CA without it.
    """
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.sign(key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return key.private_bytes(*form).decode()
