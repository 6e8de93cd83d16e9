# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and certificates: one certificate authority a tenant, kept in a directory of the user's or
handed in as text.

The PKI is the user's, not state of the yard: it can be backed up, put into a vault, and given to a
fresh CI runner. The cryptography library does the work.

A tenant's directory::

    ca.pem  ca-key.pem          the authority (the key is not there when it was handed in as text)
    client/ca.pem cert.pem key.pem   what DOCKER_CERT_PATH wants
    clients.json revoked.json crl.pem   client certificates: issued, revoked, and the signed list
    leases/ID/ca.pem cert.pem key.pem   the same of one lease, while it lasts
    ssh/id_ed25519 id_ed25519.pub    the operator's SSH key, put into hosts that name no other
    known_hosts                      SSH host keys, pinned from the hypervisor's channel
    known_hosts.d/DIGEST             the same, of one hypervisor each, for inventories
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from ..errors import InvalidInput, MissingDependency, StockyardError
from ..model import naming
from .authority import CLIENT_DAYS, Authority, Certificate
from .files import text, write
from .ledger import Ledger, Serials, fresh, ran_out

ABSENT: ImportError | None = None
try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519
except ImportError as absent:
    ABSENT = absent

OPERATOR = "operator"
# What :func:`.keyfiles.write` writes beside a file before it takes its place.
_BESIDE = re.compile(r"\..+\.[0-9]+")


class Pki:
    """The key material of one tenant.

    :param directory: made when first needed, 0700.
    :param title: goes into the authority's name, as ``owner/tenant``.
    :param ca_certificate: with ``ca_private_key``, an authority handed in as PEM; its key is never
        written to disk.
    """

    def __init__(
        self, directory: Path, title: str, ca_certificate: str = "", ca_private_key: str = ""
    ) -> None:
        if ABSENT:
            raise MissingDependency(
                "cryptography is not installed.", remedy="pip install cryptography"
            ) from ABSENT
        if bool(ca_certificate) != bool(ca_private_key):
            raise InvalidInput(
                "only one half of the CA was given.",
                remedy="give ca_certificate and ca_private_key",
            )
        self.directory = directory
        self.title = title
        self._ledger = Ledger(directory)
        self._given = Authority.from_pem(ca_certificate, ca_private_key) if ca_certificate else None

    @property
    def known_hosts(self) -> Path:
        """The tenant's known_hosts file."""
        return self.directory / "known_hosts"

    def known_hosts_of(self, place: str) -> Path:
        """The known_hosts file of the tenant's hosts in one place, such as a hypervisor."""
        return self.directory / "known_hosts.d" / hashlib.sha256(place.encode()).hexdigest()[:16]

    @property
    def client_directory(self) -> Path:
        """What DOCKER_CERT_PATH is set to."""
        return self.directory / "client"

    def directory_of(self, name: str) -> Path:
        """Where a named client certificate is put when nobody says otherwise."""
        return self.directory / "clients" / name

    def lease_directory(self, lease: str) -> Path:
        """Where the certificate of a lease is, by the lease's number."""
        return self.directory / "leases" / lease

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
        certificate, key, fresh_key = self._parts()
        with self._locked():
            if not certificate.exists() and not key.exists():
                made = Authority.create(f"stockyard {self.title}", now)
                write(fresh_key, made.key_pem(), 0o600)
                write(certificate, made.pem(), 0o644)
            if certificate.exists() and not key.exists() and fresh_key.exists():
                # The last step of the making, ours or that of a controller which died before it.
                fresh_key.replace(key)
            return self._read(certificate, key)

    def found(self) -> Authority | None:
        """The tenant's authority if there is one. Writes nothing.

        :raises InvalidInput: when only half of it is on disk.
        """
        if self._given:
            return self._given
        certificate, key, fresh_key = self._parts()
        try:
            if not certificate.exists() and not key.exists():
                return None
            return self._read(
                certificate, fresh_key if fresh_key.exists() and not key.exists() else key
            )
        except OSError as error:
            raise self._unusable(error) from error

    def client(self, now: datetime) -> Path:
        """The directory with the operator's client certificate, made or renewed when it is due."""
        return self.issue(OPERATOR, self.client_directory, now)

    def issue(self, name: str, folder: Path, now: datetime, days: int = CLIENT_DAYS) -> Path:
        """Have a client certificate in a directory, with its key and the authority's certificate.

        :return: the directory.
        """
        authority = self.authority(now)
        with self._locked():
            if not fresh(folder, authority, self._ledger.revoked(now), now):
                certificate, key = authority.issue_client(name, now, days)
                self._ledger.note(name, certificate.serial, certificate.not_after, now)
                write(folder / "key.pem", key, 0o600)
                write(folder / "cert.pem", certificate.pem, 0o644)
                write(folder / "ca.pem", authority.pem(), 0o644)
        return folder

    def lease_key(self, lease: str) -> str:
        """The private key of a lease, as PEM; nothing where it is not here."""
        path = self.lease_directory(lease) / "key.pem"
        try:
            return text(path)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise self._unusable(error) from error

    def keep_lease(self, lease: str, certificate: Certificate, key: str, now: datetime) -> Path:
        """Put the certificate of a lease where its holder finds it; returns the directory."""
        folder, authority = self.lease_directory(lease), self.authority(now)
        with self._locked():
            write(folder / "key.pem", key, 0o600)
            write(folder / "cert.pem", certificate.pem, 0o644)
            write(folder / "ca.pem", authority.pem(), 0o644)
        return folder

    def forget_lease(self, lease: str) -> None:
        """Take the certificate and the key of a lease away, if they are here."""
        if self.lease_directory(lease).exists():
            with self._locked():
                shutil.rmtree(self.lease_directory(lease), ignore_errors=True)

    def leftovers(self, now: datetime, *, remove: bool) -> list[Path]:
        """What nobody needs: certificates of leases that ran out, and what writers that died left
        half-written.

        A lease may be of a host on another hypervisor, so only its certificate tells. Its last file
        is written last.

        :param remove: take them away, too.
        """
        if not self.directory.exists():
            return []
        with self._locked():
            # Whoever writes here holds the directory, so nothing half-written is being written now.
            found = [
                p for p in self.directory.rglob(".*") if _BESIDE.fullmatch(p.name) and p.is_file()
            ]
            leases = self.directory / "leases"
            found += [p for p in leases.iterdir() if ran_out(p, now)] if leases.exists() else []
            for path in found if remove else ():
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return sorted(found)

    def is_issued(self, folder: Path, now: datetime) -> bool:
        """Whether :meth:`issue` would leave a directory as it is. Writes nothing."""
        authority = self.found()
        return authority is not None and fresh(folder, authority, self.revoked(now), now)

    def issued(self, name: str) -> dict[str, float]:
        """Serial numbers of what was issued to a name here, each with its end."""
        return self._ledger.issued(name)

    def revoked(self, now: datetime) -> dict[str, float]:
        """Serial numbers of what is revoked and has not run out, each with its end.
        Writes nothing.
        """
        return self._ledger.revoked(now)

    def revoke(self, serials: Serials, now: datetime) -> None:
        """Revoke client certificates; hosts refuse them when they have the new :meth:`crl`."""
        if serials:
            with self._locked():
                self._ledger.revoke(serials, now)

    def crl(self, now: datetime) -> str:
        """The signed list of revoked certificates that hosts get, as PEM."""
        authority = self.authority(now)
        with self._locked():
            return self._ledger.crl(authority, now)

    def operator_key(self) -> str:
        """The public half of the operator's SSH key, made when there is none."""
        public = self.ssh_key.with_suffix(".pub")
        with self._locked():
            if not self.ssh_key.exists():
                write(self.ssh_key, _openssh(ed25519.Ed25519PrivateKey.generate()), 0o600)
                public.unlink(missing_ok=True)
            if not public.exists():
                write(public, _public_line(self.ssh_key), 0o644)
            return text(public).strip()

    def pin(self, lines: list[str], place: str = "") -> Path:
        """Write the tenant's known_hosts file, or the one of a place of its own; returns it.

        :param place: several hypervisors can have hosts of one tenant: what is pinned for one
            leaves the others alone.
        """
        for line in lines:
            naming.line("known_hosts", line, 1024)
        path = self.known_hosts_of(place) if place else self.known_hosts
        pinned = "".join(f"{line}\n" for line in sorted(lines))
        with self._locked():
            if not path.exists() or text(path) != pinned:
                write(path, pinned, 0o644)
        return path

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
            raise self._unusable(error) from error

    def _parts(self) -> tuple[Path, Path, Path]:
        """The authority's certificate and key, and the key while it is being made."""
        return (
            self.directory / "ca.pem",
            self.directory / "ca-key.pem",
            self.directory / ".ca-key.pem.new",
        )

    def _read(self, certificate: Path, key: Path) -> Authority:
        for part in (certificate, key):
            if not part.exists():
                raise InvalidInput(
                    f"half of the CA is lost: {part} is not there.",
                    name=f"tenant {self.title}",
                    remedy="put it back from a backup, or move the other half away too: hosts are "
                    "admitted to a new CA",
                )
        return Authority.from_pem(text(certificate), text(key))

    def _unusable(self, error: OSError) -> StockyardError:
        return StockyardError(
            "the directory for keys cannot be used.",
            name=str(error.filename or self.directory),
            cause=str(error),
            remedy="give a directory that this user may write, by pki_dir (or directory, of a "
            "client certificate)",
        )


def _openssh(key: ed25519.Ed25519PrivateKey) -> str:
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return key.private_bytes(*form).decode()


def _public_line(private: Path) -> str:
    """What belongs into the .pub file beside a private key."""
    try:
        key = serialization.load_ssh_private_key(private.read_bytes(), None).public_key()
        public = key.public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput(
            "the operator's SSH key cannot be read.",
            name=str(private),
            cause=str(error),
            remedy="put its .pub file beside it, or remove it: a new one is made",
        ) from error
    return f"{public.decode()} stockyard-operator\n"
