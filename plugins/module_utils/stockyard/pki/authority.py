# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tenant's certificate authority: what it signs, and for how long. Touches no files.

The cryptography library does the work.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..errors import GuestError, InvalidInput

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    from cryptography.x509.oid import NameOID
except ImportError:  # pki.Pki says so, before anything here is called
    pass

CA_DAYS = 3650
SERVER_DAYS = 365
CLIENT_DAYS = 90
SKEW = timedelta(minutes=5)
# A certificate is made anew when less than this part of its life is left.
RENEW_PART = 1 / 3
# Tells these keys from all others that may ever be derived of a CA's.
LEASES = b"stockyard lease authority 1"
# FIPS 186-5: the order of P-256.
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class Certificate:
    """A signed certificate, as PEM, with what is worth recording of it."""

    pem: str
    serial: str
    not_after: float


class Authority:
    """A certificate authority of one tenant."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self.key = key

    @classmethod
    def create(cls, name: str, now: datetime) -> Authority:
        """A new authority with a P-256 key, valid for ten years."""
        return cls._of_its_own(
            _name(name), ec.generate_private_key(ec.SECP256R1()), now, timedelta(days=CA_DAYS)
        )

    @classmethod
    def _of_its_own(
        cls, subject: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
    ) -> Authority:
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        builder = _builder(subject, subject, key.public_key(), now, life).add_extension(
            constraints, critical=True
        )
        return cls(_sign(builder.add_extension(_usage(ca=True), critical=True), key), key)

    @classmethod
    def from_pem(cls, certificate: str, key: str) -> Authority:
        """An authority out of PEM texts.

        :raises InvalidInput: when they cannot be read or do not belong together.
        """
        try:
            found = x509.load_pem_x509_certificate(certificate.encode())
            private = serialization.load_pem_private_key(key.encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InvalidInput(
                "the CA cannot be read.", cause=str(error), remedy="give both as unencrypted PEM"
            ) from error
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise InvalidInput(
                "the CA's key is not an elliptic curve key.", remedy="use a P-256 key"
            )
        if private.public_key() != found.public_key():
            raise InvalidInput(
                "the CA's certificate and key do not belong together.",
                remedy="give a matching pair",
            )
        if not _may_sign(found):
            raise InvalidInput(
                "the CA's certificate is not one of a CA.", remedy="give one with CA:TRUE"
            )
        if not _may_revoke(found):
            raise InvalidInput(
                "the CA may not sign lists of revoked certificates.",
                remedy="give one whose key usage has cRLSign",
            )
        return cls(found, private)

    def pem(self) -> str:
        """The authority's certificate."""
        return _pem(self.certificate)

    def key_pem(self) -> str:
        """The authority's private key."""
        return _key_pem(self.key)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in hex: what names this authority on record."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def server_life(self, now: datetime, days: int = SERVER_DAYS) -> timedelta:
        """How long a server certificate would last that were signed now.

        :raises InvalidInput: when the authority itself ran out.
        """
        return min(now + timedelta(days=days), _end_of(self.certificate, now)) - now

    def sign_server(
        self, csr_pem: str, hostname: str, address: str, now: datetime, days: int = SERVER_DAYS
    ) -> Certificate:
        """A server certificate for the key in a request; names come from us, never from the
        request.

        :raises GuestError: when the request is not one, or is signed with another key.
        """
        try:
            csr = x509.load_pem_x509_csr(csr_pem.encode())
            valid, key = csr.is_signature_valid, csr.public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise GuestError(
                "the guest sent no certificate request.", name=f"host {hostname}", cause=str(error)
            ) from error
        if not valid or not isinstance(key, ec.EllipticCurvePublicKey):
            raise GuestError(
                "the guest's certificate request is not signed with its own P-256 key.",
                name=f"host {hostname}",
            )
        names = x509.SubjectAlternativeName(
            [x509.DNSName(hostname), x509.IPAddress(ipaddress.ip_address(address))]
        )
        life = timedelta(days=days)
        builder = _builder(
            _name(hostname), self.certificate.subject, key, now, life, self.certificate
        )
        return self._issue(builder.add_extension(names, critical=False), "server")

    def issue_client(
        self, name: str, now: datetime, days: int = CLIENT_DAYS
    ) -> tuple[Certificate, str]:
        """A client certificate with a new key; returns both, the key as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._client(name, key, now, timedelta(days=days)), _key_pem(key)

    def of_leases(self, host: str, now: datetime) -> Authority:
        """The authority whose client certificates open one host and no other.

        It is derived of this one's key, so nothing of it is kept anywhere: whoever has this one can
        make it again. It is no intermediate of this one's: a host that trusts this one alone does
        not let its clients in.

        :param host: the host's uuid.
        """
        life = _end_of(self.certificate, now) - now
        return self._of_its_own(
            _name(f"stockyard leases {host}"), _derived(self.key, host), now, life
        )

    def issue_until(
        self, name: str, now: datetime, until: datetime, key: str = ""
    ) -> tuple[Certificate, str]:
        """A client certificate that ends at a moment; returns it and its key, as PEM.

        :param key: the key that it is for, as PEM; a new one is made when there is none, or it is
            no P-256 key.
        """
        private = _private(key) or ec.generate_private_key(ec.SECP256R1())
        return self._client(name, private, now, until - now), _key_pem(private)

    def _client(
        self, name: str, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
    ) -> Certificate:
        return self._issue(
            _builder(
                _name(name), self.certificate.subject, key.public_key(), now, life, self.certificate
            ),
            "client",
        )

    def sign_crl(self, serials: Iterable[str], now: datetime) -> str:
        """The list of revoked certificates, as PEM. It lasts as long as the authority: no host
        shuts everybody out because nobody brought it a newer one.

        :param serials: in hex.
        """
        # A day back: a guest whose clock is behind must not find it a list of the future.
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(now - timedelta(days=1)).next_update(
            _end_of(self.certificate, now)
        )
        for serial in sorted(serials):
            entry = (
                x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(now)
            )
            builder = builder.add_revoked_certificate(entry.build())
        number = x509.CRLNumber(int(now.timestamp()))
        signed = builder.add_extension(number, critical=False).sign(self.key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM).decode()

    def _issue(self, builder: x509.CertificateBuilder, role: str) -> Certificate:
        oid = x509.oid.ExtendedKeyUsageOID
        purpose = oid.SERVER_AUTH if role == "server" else oid.CLIENT_AUTH
        builder = builder.add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        signed = _sign(builder.add_extension(_usage(ca=False), critical=True), self.key)
        return Certificate(
            _pem(signed), f"{signed.serial_number:x}", signed.not_valid_after_utc.timestamp()
        )


def _name(common_name: str) -> x509.Name:
    # X.509 has room for 64 bytes (ub-common-name of RFC 5280).
    fitting = common_name.encode()[:64].decode(errors="ignore")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, fitting)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    life: timedelta,
    signer: x509.Certificate | None = None,
) -> x509.CertificateBuilder:
    """What all certificates have in common; none outlives its signer."""
    end = now + life
    if signer is not None:
        end = min(end, _end_of(signer, now))
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(end)
    )
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return builder if signer is None else _linked(builder, signer)


def _end_of(signer: x509.Certificate, now: datetime) -> datetime:
    end = signer.not_valid_after_utc
    if end <= now:
        raise InvalidInput(
            f"the CA ran out on {end:%Y-%m-%d}.",
            name=signer.subject.rfc4514_string(),
            remedy="move it away, or give another: hosts are admitted anew where they are",
        )
    return end


def _linked(builder: x509.CertificateBuilder, signer: x509.Certificate) -> x509.CertificateBuilder:
    """Name the signer's key, if it has a name: that of a CA which was handed in may have none."""
    try:
        own = signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return builder
    link = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
    return builder.add_extension(link, critical=False)


def _derived(key: ec.EllipticCurvePrivateKey, host: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key for one host (RFC 5869). Without the key that it is derived of nobody can tell
    it.
    """
    numbers = key.private_numbers()
    secret = numbers.private_value.to_bytes((key.curve.key_size + 7) // 8, "big")
    # 64 bits more than the order needs make the bias of the reduction negligible (FIPS 186-5,
    # A.2.1).
    drawn = HKDF(hashes.SHA256(), 40, LEASES, host.encode("ascii")).derive(secret)
    return ec.derive_private_key(
        int.from_bytes(drawn, "big") % (P256_ORDER - 1) + 1, ec.SECP256R1()
    )


def _private(pem: str) -> ec.EllipticCurvePrivateKey | None:
    """A P-256 key out of PEM; nothing for anything else."""
    try:
        found = serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return (
        found
        if isinstance(found, ec.EllipticCurvePrivateKey) and isinstance(found.curve, ec.SECP256R1)
        else None
    )


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _may_revoke(certificate: x509.Certificate) -> bool:
    """TLS servers refuse everybody when their list is signed by a CA whose key usage does not allow
    it.
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
