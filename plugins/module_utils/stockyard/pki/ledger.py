# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger of a tenant's client certificates: issued ones, revoked ones, and the list that hosts
get.

Reading takes no lock. A writer must hold the lock of the directory: see :class:`.pki.Pki`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from ..errors import InvalidInput
from . import files
from .authority import RENEW_PART, Authority

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization
except ImportError:  # Pki reports it before anything here is called
    pass

# Serial numbers, in hex, with the end of the certificate in seconds since the epoch.
Serials = Mapping[str, float]


class Ledger:
    """Issued and revoked client certificates, in files of one directory."""

    def __init__(self, directory: Path) -> None:
        self._issued = directory / "clients.json"
        self._revoked = directory / "revoked.json"
        self._crl = directory / "crl.pem"

    def issued(self, name: str) -> dict[str, float]:
        """Return the serial numbers that were issued to a name, each with its end."""
        return _serials(files.read_table(self._issued).get(name, {}), self._issued)

    def note(self, name: str, serial: str, end: float, current_time: datetime) -> None:
        """Record a certificate before its holder gets it, and delete the entries of expired
        ones.
        """
        table = files.read_table(self._issued)
        entries = {**_unexpired(self.issued(name), current_time), serial: end}
        files.write_table(self._issued, {**table, name: entries})

    def revoked(self, current_time: datetime) -> dict[str, float]:
        """Return the revoked serial numbers that have not expired: expired certificates are refused
        for their age.
        """
        return _unexpired(_serials(files.read_table(self._revoked), self._revoked), current_time)

    def revoke(self, serials: Serials, current_time: datetime) -> None:
        """Add serial numbers to the revoked ones."""
        before = self.revoked(current_time)
        if _unexpired(serials, current_time).keys() - before.keys():
            files.write_table(self._revoked, {**before, **_unexpired(serials, current_time)})

    def crl(self, authority: Authority, current_time: datetime) -> str:
        """Return the signed list of revoked certificates, as PEM; it is signed again if the
        revocations or the authority changed.
        """
        serials = self.revoked(current_time)
        if not self._holds(authority, serials):
            files.write(self._crl, authority.sign_crl(serials, current_time), 0o644)
        return files.text(self._crl)

    def _holds(self, authority: Authority, serials: Serials) -> bool:
        try:
            crl = x509.load_pem_x509_crl(self._crl.read_bytes())
        except (FileNotFoundError, ValueError):
            return False
        listed_serials = {f"{entry.serial_number:x}" for entry in crl}
        signature_valid = crl.is_signature_valid(authority.key.public_key())
        return (
            signature_valid
            and listed_serials == set(serials)
            and crl.next_update_utc == authority.certificate.not_valid_after_utc
        )


def is_fresh(folder: Path, authority: Authority, revoked: Serials, current_time: datetime) -> bool:
    """Return whether a directory contains a client certificate of this authority with its key, and
    enough of its life remains.
    """
    try:
        certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
        certificate.verify_directly_issued_by(authority.certificate)
        key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
        # A controller can have crashed between the two files.
        if (
            key.public_key() != certificate.public_key()
            or (folder / "ca.pem").read_text() != authority.pem()
        ):
            return False
    except (OSError, ValueError, TypeError, InvalidSignature):
        return False
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return (
        f"{certificate.serial_number:x}" not in revoked
        and certificate.not_valid_after_utc - current_time > life * RENEW_PART
    )


def ran_out(folder: Path, current_time: datetime) -> bool:
    """Return whether a directory contains an expired client certificate, or a key that never got a
    certificate.

    A directory with any other file does not count.
    """
    try:
        if folder.is_symlink() or not {path.name for path in folder.iterdir()} <= {
            "ca.pem",
            "cert.pem",
            "key.pem",
        }:
            return False
        return (
            x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes()).not_valid_after_utc
            <= current_time
        )
    except FileNotFoundError:
        return folder.is_dir()
    except (OSError, ValueError):
        return False


def serial_of(pem: str, authority: Authority) -> dict[str, float]:
    """Return the serial number and the end of a client certificate.

    :raises InvalidInput: if the text is no certificate, or one of another authority.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise InvalidInput(
            "the certificate was not signed by the tenant's CA.",
            cause=str(error),
            remedy="set the text of a cert.pem",
        ) from error
    return {f"{certificate.serial_number:x}": certificate.not_valid_after_utc.timestamp()}


def _unexpired(serials: Serials, current_time: datetime) -> dict[str, float]:
    return {serial: end for serial, end in serials.items() if end > current_time.timestamp()}


def _serials(table: object, path: Path) -> dict[str, float]:
    """Return serial numbers from JSON.

    :raises InvalidInput: if the data is anything else.
    """
    try:
        return {f"{int(serial, 16):x}": float(end) for serial, end in table.items()}  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidInput(
            "the file does not list serial numbers.",
            name=str(path),
            cause=str(error),
            remedy="restore the file from a backup",
        ) from error
