# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and certificates: one certificate authority a tenant, kept in a directory of the user's or handed in as text.

The PKI is the user's, not state of the yard: it can be backed up, put into a vault, and given to a fresh CI runner.
The cryptography library does the work.

A tenant's directory::

    ca.pem  ca-key.pem          the authority (the key is not there when it was handed in as text)
    client/ca.pem cert.pem key.pem   what DOCKER_CERT_PATH wants
    ssh/id_ed25519 id_ed25519.pub    the operator's SSH key, put into hosts that name no other
    known_hosts                      SSH host keys, pinned from the hypervisor's channel
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from .errors import GuestError, InvalidInput, MissingDependency, StockyardError

MISSING = ""
try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.x509.oid import NameOID
except ImportError as missing:
    MISSING = str(missing)

CA_DAYS = 3650
SERVER_DAYS = 365
CLIENT_DAYS = 90
# A client certificate is made anew when less than this part of its life is left.
RENEW_PART = 1 / 3
SKEW = timedelta(minutes=5)


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
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        builder = _builder(subject, subject, key.public_key(), now, CA_DAYS).add_extension(constraints, critical=True)
        return cls(_sign(builder.add_extension(_usage(ca=True), critical=True), key), key)

    @classmethod
    def from_pem(cls, certificate: str, key: str) -> Authority:
        """An authority out of PEM texts.

        :raises InvalidInput: when they cannot be read or do not belong together.
        """
        try:
            found = x509.load_pem_x509_certificate(certificate.encode())
            private = serialization.load_pem_private_key(key.encode(), None)
        except (ValueError, TypeError) as error:
            raise InvalidInput(
                "the CA cannot be read.", cause=str(error), remedy="give both as unencrypted PEM"
            ) from error
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise InvalidInput("the CA's key is not an elliptic curve key.", remedy="use a P-256 key")
        if private.public_key() != found.public_key():
            raise InvalidInput("the CA's certificate and key do not belong together.", remedy="give a matching pair")
        return cls(found, private)

    def pem(self) -> str:
        """The authority's certificate."""
        return _pem(self.certificate)

    def key_pem(self) -> str:
        """The authority's private key."""
        return _key_pem(self.key)

    def sign_server(
        self, csr_pem: str, hostname: str, address: str, now: datetime, days: int = SERVER_DAYS
    ) -> Certificate:
        """A server certificate for the key in a request; names come from us, never from the request.

        :raises GuestError: when the request is not one, or is signed with another key.
        """
        try:
            csr = x509.load_pem_x509_csr(csr_pem.encode())
            valid = csr.is_signature_valid
        except (ValueError, TypeError) as error:
            raise GuestError("the guest sent no certificate request.", name=hostname, cause=str(error)) from error
        key = csr.public_key()
        if not valid or not isinstance(key, ec.EllipticCurvePublicKey):
            raise GuestError("the guest's certificate request is not signed with its own P-256 key.", name=hostname)
        names = x509.SubjectAlternativeName([x509.DNSName(hostname), x509.IPAddress(ipaddress.ip_address(address))])
        builder = _builder(_name(hostname), self.certificate.subject, key, now, days, self.certificate)
        return self._issue(builder.add_extension(names, critical=False), "server")

    def issue_client(self, name: str, now: datetime, days: int = CLIENT_DAYS) -> tuple[Certificate, str]:
        """A client certificate with a new key; returns both, the key as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), self.certificate.subject, key.public_key(), now, days, self.certificate)
        return self._issue(builder, "client"), _key_pem(key)

    def _issue(self, builder: x509.CertificateBuilder, role: str) -> Certificate:
        oid = x509.oid.ExtendedKeyUsageOID
        purpose = oid.SERVER_AUTH if role == "server" else oid.CLIENT_AUTH
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        signed = _sign(builder.add_extension(_usage(ca=False), critical=True), self.key)
        return Certificate(_pem(signed), f"{signed.serial_number:x}", signed.not_valid_after_utc.timestamp())


class Pki:
    """The key material of one tenant.

    :param directory: made when first needed, 0700.
    :param title: goes into the authority's name, as ``owner/tenant``.
    :param ca_certificate: with ``ca_private_key``, an authority handed in as PEM; its key is never written to disk.
    """

    def __init__(self, directory: Path, title: str, ca_certificate: str = "", ca_private_key: str = "") -> None:
        if MISSING:
            raise MissingDependency("cryptography is not installed.", cause=MISSING, remedy="pip install cryptography")
        if bool(ca_certificate) != bool(ca_private_key):
            raise InvalidInput("only one half of the CA was given.", remedy="give ca_certificate and ca_private_key")
        self.directory = directory
        self.title = title
        self._given = Authority.from_pem(ca_certificate, ca_private_key) if ca_certificate else None

    @property
    def known_hosts(self) -> Path:
        """The tenant's known_hosts file."""
        return self.directory / "known_hosts"

    @property
    def client_directory(self) -> Path:
        """What DOCKER_CERT_PATH is set to."""
        return self.directory / "client"

    @property
    def ssh_key(self) -> Path:
        """The operator's private SSH key."""
        return self.directory / "ssh" / "id_ed25519"

    def authority(self, now: datetime) -> Authority:
        """The tenant's authority; made, once and whole, when there is none.

        :raises InvalidInput: when only half of it is on disk.
        """
        if self._given:
            return self._given
        certificate, key = self.directory / "ca.pem", self.directory / "ca-key.pem"
        with self._locked():
            if not certificate.exists() and not key.exists():
                made = Authority.create(f"stockyard {self.title}", now)
                _write(key, made.key_pem(), 0o600)
                _write(certificate, made.pem(), 0o644)
            elif not (certificate.exists() and key.exists()):
                lost = certificate if key.exists() else key
                raise InvalidInput(
                    f"half of the CA is lost: {lost} is not there.", name=f"tenant {self.title}",
                    remedy="put it back from a backup, or remove the other half too and replace the hosts",
                )  # fmt: skip
            return Authority.from_pem(certificate.read_text(), key.read_text())

    def client(self, now: datetime) -> Path:
        """The directory with the operator's client certificate, made or renewed when it is due."""
        authority, folder = self.authority(now), self.client_directory
        with self._locked():
            if not _fresh(folder, authority, now):
                certificate, key = authority.issue_client("operator", now)
                _write(folder / "key.pem", key, 0o600)
                _write(folder / "cert.pem", certificate.pem, 0o644)
                _write(folder / "ca.pem", authority.pem(), 0o644)
        return folder

    def operator_key(self) -> str:
        """The public half of the operator's SSH key, made when there is none."""
        with self._locked():
            if not self.ssh_key.exists():
                key = ed25519.Ed25519PrivateKey.generate()
                form = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
                public = key.public_key().public_bytes(
                    serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
                )
                _write(self.ssh_key.with_suffix(".pub"), f"{public.decode()} stockyard-operator\n", 0o644)
                _write(self.ssh_key, key.private_bytes(*form).decode(), 0o600)
            return self.ssh_key.with_suffix(".pub").read_text().strip()

    def pin(self, lines: list[str]) -> None:
        """Write the tenant's known_hosts file."""
        text = "".join(f"{line}\n" for line in sorted(lines))
        with self._locked():
            if not self.known_hosts.exists() or self.known_hosts.read_text() != text:
                _write(self.known_hosts, text, 0o644)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the directory; short work only, so it is waited for."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StockyardError(
                "the directory for keys cannot be used.", name=str(self.directory), cause=str(error),
                remedy="give a directory that this user may write, by the option pki_dir",
            ) from error  # fmt: skip
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _fresh(folder: Path, authority: Authority, now: datetime) -> bool:
    """Whether a client certificate is there, of this authority, with enough of its life left."""
    try:
        found = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
        found.verify_directly_issued_by(authority.certificate)
        if (folder / "ca.pem").read_text() != authority.pem() or not (folder / "key.pem").exists():
            return False
    except (OSError, ValueError, TypeError, InvalidSignature):
        return False
    life = found.not_valid_after_utc - found.not_valid_before_utc
    return found.not_valid_after_utc - now > life * RENEW_PART


def _write(path: Path, text: str, mode: int) -> None:
    """Write a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="ascii") as handle:
        os.fchmod(handle.fileno(), mode)
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(beside, path)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int,
    signer: x509.Certificate | None = None,
) -> x509.CertificateBuilder:  # fmt: skip
    """What all certificates have in common; none outlives its signer."""
    end = now + timedelta(days=days)
    if signer is not None:
        end = min(end, signer.not_valid_after_utc)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - SKEW).not_valid_after(end)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    if signer is not None:
        own = signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        link = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
        builder = builder.add_extension(link, critical=False)
    return builder


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=ca, crl_sign=ca, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.sign(key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()
