# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and certificates: one certificate authority for each tenant, in a directory of the user or
given as text.

The PKI belongs to the user and is no state of the yard: it can be backed up, put into a vault, and
given to a fresh CI runner. The cryptography library does the work.

A tenant's directory::

    ca.pem  ca-key.pem          the authority (without the key if it was given as text)
    client/ca.pem cert.pem key.pem   the files for DOCKER_CERT_PATH
    clients.json revoked.json crl.pem   client certificates: issued, revoked, and the signed list
    leases/ID/ca.pem cert.pem key.pem   the same of one lease, while it lasts
    ssh/id_ed25519 id_ed25519.pub    the operator's SSH key, for hosts that declare no other key
    known_hosts                      SSH host keys, pinned from the hypervisor's channel
    known_hosts.d/DIGEST             the same, of one hypervisor each, for inventories
    ssh_config                       names of hosts for OpenSSH: the content of the next files
    ssh_config.d/DIGEST              the names of the hosts of one hypervisor each
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from ..errors import InvalidInput, MissingDependency, StockyardError
from ..files import is_temporary, move
from ..model import naming
from .authority import CLIENT_DAYS, Authority, Certificate
from .files import refuse_foreign, text, write
from .ledger import Ledger, Serials, is_fresh, ran_out

ABSENT: ImportError | None = None
try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519
except ImportError as absent:
    ABSENT = absent

OPERATOR = "operator"
# Temporary files of earlier versions of stockyard.
_OLD_TEMPORARY = re.compile(r"\..+\.[0-9]+")


class Pki:
    """The key material of one tenant.

    :param directory: created on first use, mode 0700.
    :param title: part of the authority's name, as ``owner/tenant``.
    :param ca_certificate: with ``ca_private_key``, an authority given as PEM; its key is never
        written to disk.
    """

    def __init__(
        self, directory: Path, title: str, ca_certificate: str = "", ca_private_key: str = ""
    ) -> None:
        if ABSENT:
            raise MissingDependency(
                "cryptography is not installed.",
                remedy="run pip install cryptography",
            ) from ABSENT
        if bool(ca_certificate) != bool(ca_private_key):
            raise InvalidInput(
                "the CA is incomplete.",
                remedy="set both ca_certificate and ca_private_key",
            )
        self.directory = directory
        self.title = title
        self._ledger = Ledger(directory)
        self._given = Authority.from_pem(ca_certificate, ca_private_key) if ca_certificate else None

    @property
    def known_hosts(self) -> Path:
        """Return the path of the tenant's known_hosts file."""
        return self.directory / "known_hosts"

    def known_hosts_of(self, place: str) -> Path:
        """Return the path of the known_hosts file of the tenant's hosts in one place, such as a
        hypervisor.
        """
        return self.directory / "known_hosts.d" / _digest(place)

    @property
    def ssh_config(self) -> Path:
        """Return the path of the tenant's configuration of OpenSSH."""
        return self.directory / "ssh_config"

    def ssh_config_of(self, place: str) -> Path:
        """Return the path of the configuration of OpenSSH for the tenant's hosts in one place."""
        return self.directory / "ssh_config.d" / _digest(place)

    @property
    def client_directory(self) -> Path:
        """Return the directory for DOCKER_CERT_PATH."""
        return self.directory / "client"

    def directory_of(self, name: str) -> Path:
        """Return the default directory of a named client certificate."""
        return self.directory / "clients" / name

    def lease_directory(self, lease: str) -> Path:
        """Return the directory of a lease's certificate, by the lease's number."""
        return self.directory / "leases" / lease

    @property
    def ssh_key(self) -> Path:
        """Return the path of the operator's private SSH key."""
        return self.directory / "ssh" / "id_ed25519"

    def authority(self, current_time: datetime) -> Authority:
        """Return the tenant's authority; it is created, once and completely, if there is none.

        :raises InvalidInput: if only half of it is on disk.
        """
        if self._given:
            return self._given
        certificate, key, fresh_key = self._parts()
        with self._locked():
            if not certificate.exists() and not key.exists():
                created = Authority.create(f"stockyard {self.title}", current_time)
                write(fresh_key, created.key_pem(), 0o600)
                write(certificate, created.pem(), 0o644)
            if certificate.exists() and not key.exists() and fresh_key.exists():
                # The last step of the creation, by this or a crashed controller.
                move(fresh_key, key)
            return self._read(certificate, key)

    def existing_authority(self) -> Authority | None:
        """Return the tenant's authority, or ``None`` if there is none. Writes nothing.

        :raises InvalidInput: if only half of it is on disk.
        """
        if self._given:
            return self._given
        certificate, key, fresh_key = self._parts()
        try:
            if not certificate.exists() and not key.exists():
                return None
            # Another controller can complete the key at any time.
            for path in (key, fresh_key):
                with suppress(FileNotFoundError):
                    return Authority.from_pem(text(certificate), text(path))
            return self._read(certificate, key)
        except OSError as error:
            raise self._unusable(error) from error

    def client(self, current_time: datetime) -> Path:
        """Return the directory with the operator's client certificate, which is issued or renewed
        if due.
        """
        return self.issue(OPERATOR, self.client_directory, current_time)

    def issue(
        self, name: str, folder: Path, current_time: datetime, days: int = CLIENT_DAYS
    ) -> Path:
        """Issue a client certificate into a directory, with its key and the authority's
        certificate, if the present one is not valid long enough.

        :return: the directory.
        """
        authority = self.authority(current_time)
        with self._locked():
            if not is_fresh(folder, authority, self._ledger.revoked(current_time), current_time):
                certificate, key = authority.issue_client(name, current_time, days)
                self._ledger.note(name, certificate.serial, certificate.not_after, current_time)
                write(folder / "key.pem", key, 0o600)
                write(folder / "cert.pem", certificate.pem, 0o644)
                write(folder / "ca.pem", authority.pem(), 0o644)
        return folder

    def lease_key(self, lease: str) -> str:
        """Return the private key of a lease, as PEM; empty if this controller does not have it."""
        path = self.lease_directory(lease) / "key.pem"
        try:
            return text(path)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise self._unusable(error) from error

    def keep_lease(
        self, lease: str, certificate: Certificate, key: str, current_time: datetime
    ) -> Path:
        """Write the certificate of a lease to the lease's directory; return the directory."""
        folder, authority = self.lease_directory(lease), self.authority(current_time)
        with self._locked():
            write(folder / "key.pem", key, 0o600)
            write(folder / "cert.pem", certificate.pem, 0o644)
            write(folder / "ca.pem", authority.pem(), 0o644)
        return folder

    def forget_lease(self, lease: str) -> None:
        """Delete the certificate and the key of a lease, if this controller has them."""
        if self.lease_directory(lease).exists():
            with self._locked():
                shutil.rmtree(self.lease_directory(lease), ignore_errors=True)

    def leftovers(self, current_time: datetime, *, remove: bool) -> list[Path]:
        """Return unneeded files: certificates of expired leases, and incomplete files of writers
        that crashed.

        A lease can belong to a host on another hypervisor, so only its certificate shows its end.
        The certificate's last file is written last.

        :param remove: whether to delete them, too.
        """
        if not self.directory.exists():
            return []
        with self._locked():
            # Writers hold the lock of the directory, so no incomplete file is still being written.
            leftovers = [
                entry
                for entry in self.directory.rglob(".*")
                if (is_temporary(entry) or _OLD_TEMPORARY.fullmatch(entry.name)) and entry.is_file()
            ]
            leases = self.directory / "leases"
            leftovers += (
                [entry for entry in leases.iterdir() if ran_out(entry, current_time)]
                if leases.exists()
                else []
            )
            for path in leftovers if remove else ():
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return sorted(leftovers)

    def is_issued(self, folder: Path, current_time: datetime) -> bool:
        """Return whether :meth:`issue` would not change a directory. Writes nothing."""
        authority = self.existing_authority()
        return authority is not None and is_fresh(
            folder, authority, self.revoked(current_time), current_time
        )

    def issued(self, name: str) -> dict[str, float]:
        """Return the serial numbers that this controller issued to a name, each with its end."""
        return self._ledger.issued(name)

    def revoked(self, current_time: datetime) -> dict[str, float]:
        """Return the revoked serial numbers that have not expired, each with its end. Writes
        nothing.
        """
        return self._ledger.revoked(current_time)

    def revoke(self, serials: Serials, current_time: datetime) -> None:
        """Revoke client certificates; hosts refuse them when they have the new :meth:`crl`."""
        if serials:
            with self._locked():
                self._ledger.revoke(serials, current_time)

    def crl(self, current_time: datetime) -> str:
        """Return the signed list of revoked certificates for hosts, as PEM."""
        authority = self.authority(current_time)
        with self._locked():
            return self._ledger.crl(authority, current_time)

    def operator_key(self) -> str:
        """Return the public half of the operator's SSH key, which is created if there is none."""
        public_path = self.ssh_key.with_suffix(".pub")
        with self._locked():
            if not self.ssh_key.exists():
                write(self.ssh_key, _openssh(ed25519.Ed25519PrivateKey.generate()), 0o600)
                public_path.unlink(missing_ok=True)
            if not public_path.exists():
                write(public_path, _public_line(self.ssh_key), 0o644)
            return text(public_path).strip()

    def pin(self, lines: list[str], place: str = "") -> Path:
        """Write the tenant's known_hosts file, or the one of a single place; return its path.

        :param place: several hypervisors can have hosts of one tenant: the pinned keys of one place
            do not change those of the others.
        """
        for line in lines:
            naming.line("known_hosts", line, 1024)
        path = self.known_hosts_of(place) if place else self.known_hosts
        with self._locked():
            _update(path, "".join(f"{line}\n" for line in sorted(lines)))
        return path

    def configure_ssh(self, entries: str, place: str) -> Path:
        """Write the configuration of OpenSSH for the tenant's hosts in one place; return the path
        of the tenant's configuration, which contains the hosts of all places.
        """
        path = self.ssh_config_of(place)
        with self._locked():
            _update(path, entries)
            parts = [text(part) for part in sorted(path.parent.glob("[0-9a-f]*"))]
            _update(self.ssh_config, "".join(parts))
        return self.ssh_config

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the directory; the work is short, so other controllers wait for it.

        :raises StockyardError: for every error of the file system inside the block.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            refuse_foreign(self.directory)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(self.directory / ".lock", flags, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            finally:
                os.close(handle)
        except OSError as error:
            raise self._unusable(error) from error

    def _parts(self) -> tuple[Path, Path, Path]:
        """Return the paths of the authority's certificate and key, and of the key while it is
        created.
        """
        return (
            self.directory / "ca.pem",
            self.directory / "ca-key.pem",
            self.directory / ".ca-key.pem.new",
        )

    def _read(self, certificate: Path, key: Path) -> Authority:
        for part in (certificate, key):
            if not part.exists():
                raise InvalidInput(
                    f"the CA is incomplete: {part} is missing.",
                    name=f"tenant {self.title}",
                    remedy="restore the file from a backup, or move the other file away too: "
                    "hosts then get certificates of a new CA",
                )
        return Authority.from_pem(text(certificate), text(key))

    def _unusable(self, error: OSError) -> StockyardError:
        return StockyardError(
            "the directory for keys cannot be used.",
            name=str(error.filename or self.directory),
            cause=str(error),
            remedy="set pki_dir (or directory, for a client certificate) to a directory that "
            "this user can write",
        )


def _digest(place: str) -> str:
    """Return the name of a file for a place."""
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def _update(path: Path, content: str) -> None:
    """Write a file unless it has the content already."""
    if not path.exists() or text(path) != content:
        write(path, content, 0o644)


def _openssh(key: ed25519.Ed25519PrivateKey) -> str:
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return key.private_bytes(*form).decode()


def _public_line(private_path: Path) -> str:
    """Return the content of the .pub file of a private key."""
    try:
        key = serialization.load_ssh_private_key(private_path.read_bytes(), None).public_key()
        public_bytes = key.public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput(
            "the operator's SSH key cannot be read.",
            name=str(private_path),
            cause=str(error),
            remedy="restore its .pub file in the same directory, or delete the key, and the "
            "next run creates a new one",
        ) from error
    return f"{public_bytes.decode()} stockyard-operator\n"
