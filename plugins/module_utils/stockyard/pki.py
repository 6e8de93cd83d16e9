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
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from .authority import Authority
from .errors import InvalidInput, MissingDependency, StockyardError

ABSENT: ImportError | None = None
try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519
except ImportError as absent:
    ABSENT = absent

# A client certificate is made anew when less than this part of its life is left.
RENEW_PART = 1 / 3


class Pki:
    """The key material of one tenant.

    :param directory: made when first needed, 0700.
    :param title: goes into the authority's name, as ``owner/tenant``.
    :param ca_certificate: with ``ca_private_key``, an authority handed in as PEM; its key is never written to disk.
    """

    def __init__(self, directory: Path, title: str, ca_certificate: str = "", ca_private_key: str = "") -> None:
        if ABSENT:
            raise MissingDependency("cryptography is not installed.", remedy="pip install cryptography") from ABSENT
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
        fresh = self.directory / ".ca-key.pem.new"
        with self._locked():
            if not certificate.exists() and not key.exists():
                made = Authority.create(f"stockyard {self.title}", now)
                _write(fresh, made.key_pem(), 0o600)
                _write(certificate, made.pem(), 0o644)
            if certificate.exists() and not key.exists() and fresh.exists():
                # The last step of the making, ours or that of a controller which died before it.
                fresh.replace(key)
            for part in (certificate, key):
                if not part.exists():
                    raise InvalidInput(
                        f"half of the CA is lost: {part} is not there.", name=f"tenant {self.title}",
                        remedy="put it back from a backup, or remove the other half too and replace the hosts",
                    )  # fmt: skip
            return Authority.from_pem(_text(certificate), _text(key))

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
        public = self.ssh_key.with_suffix(".pub")
        with self._locked():
            if not self.ssh_key.exists():
                _write(self.ssh_key, _openssh(ed25519.Ed25519PrivateKey.generate()), 0o600)
                public.unlink(missing_ok=True)
            if not public.exists():
                _write(public, _public_line(self.ssh_key), 0o644)
            return _text(public).strip()

    def pin(self, lines: list[str]) -> None:
        """Write the tenant's known_hosts file."""
        text = "".join(f"{line}\n" for line in sorted(lines))
        with self._locked():
            if not self.known_hosts.exists() or _text(self.known_hosts) != text:
                _write(self.known_hosts, text, 0o644)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the directory; short work only, so it is waited for.

        :raises StockyardError: for whatever the file system refuses inside the block.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            finally:
                os.close(handle)
        except OSError as error:
            raise StockyardError(
                "the directory for keys cannot be used.", name=str(self.directory), cause=str(error),
                remedy="give a directory that this user may write, by the option pki_dir",
            ) from error  # fmt: skip


def _fresh(folder: Path, authority: Authority, now: datetime) -> bool:
    """Whether a client certificate is there with its key, of this authority, with enough of its life left."""
    try:
        found = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
        found.verify_directly_issued_by(authority.certificate)
        key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
        # A controller may have died between the two files.
        if key.public_key() != found.public_key() or (folder / "ca.pem").read_text() != authority.pem():
            return False
    except (FileNotFoundError, ValueError, TypeError, InvalidSignature):
        return False
    life = found.not_valid_after_utc - found.not_valid_before_utc
    return found.not_valid_after_utc - now > life * RENEW_PART


def _text(path: Path) -> str:
    """What a file holds; what is not text in it shows as question marks, and is refused by whoever reads it."""
    return path.read_text(encoding="utf-8", errors="replace")


def _openssh(key: ed25519.Ed25519PrivateKey) -> str:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


def _public_line(private: Path) -> str:
    """What belongs into the .pub file beside a private key."""
    try:
        key = serialization.load_ssh_private_key(private.read_bytes(), None).public_key()
        public = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput(
            "the operator's SSH key cannot be read.", name=str(private), cause=str(error),
            remedy="put its .pub file beside it, or remove it: a new one is made",
        ) from error  # fmt: skip
    return f"{public.decode()} stockyard-operator\n"


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
