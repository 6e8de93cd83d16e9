# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a tenant keeps of client certificates: which were issued, which are revoked, and the list
that hosts get.

Reading takes no lock. Who writes holds the directory: see :class:`.pki.Pki`.
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
except ImportError:  # pki.Pki says so, before anything here is called
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
        """What was issued to a name."""
        return _serials(files.read_table(self._issued).get(name, {}), self._issued)

    def note(self, name: str, serial: str, end: float, now: datetime) -> None:
        """Put a certificate on record, before anyone gets it; forget those that ran out."""
        table = files.read_table(self._issued)
        kept = {**_living(self.issued(name), now), serial: end}
        files.write_table(self._issued, {**table, name: kept})

    def revoked(self, now: datetime) -> dict[str, float]:
        """What is revoked and has not run out: that which did is refused for its age."""
        return _living(_serials(files.read_table(self._revoked), self._revoked), now)

    def revoke(self, serials: Serials, now: datetime) -> None:
        """Add to what is revoked."""
        before = self.revoked(now)
        if _living(serials, now).keys() - before.keys():
            files.write_table(self._revoked, {**before, **_living(serials, now)})

    def crl(self, authority: Authority, now: datetime) -> str:
        """The signed list of what is revoked, as PEM; signed anew when that changed, or the
        authority did.
        """
        serials = self.revoked(now)
        if not self._holds(authority, serials):
            files.write(self._crl, authority.sign_crl(serials, now), 0o644)
        return files.text(self._crl)

    def _holds(self, authority: Authority, serials: Serials) -> bool:
        try:
            found = x509.load_pem_x509_crl(self._crl.read_bytes())
        except (FileNotFoundError, ValueError):
            return False
        listed = {f"{entry.serial_number:x}" for entry in found}
        ours = found.is_signature_valid(authority.key.public_key())
        return (
            ours
            and listed == set(serials)
            and found.next_update_utc == authority.certificate.not_valid_after_utc
        )


def fresh(folder: Path, authority: Authority, revoked: Serials, now: datetime) -> bool:
    """Whether a client certificate is there with its key, of this authority, with enough of its
    life left.
    """
    try:
        found = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
        found.verify_directly_issued_by(authority.certificate)
        key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
        # A controller may have died between the two files.
        if (
            key.public_key() != found.public_key()
            or (folder / "ca.pem").read_text() != authority.pem()
        ):
            return False
    except (OSError, ValueError, TypeError, InvalidSignature):
        return False
    life = found.not_valid_after_utc - found.not_valid_before_utc
    return (
        f"{found.serial_number:x}" not in revoked
        and found.not_valid_after_utc - now > life * RENEW_PART
    )


def ran_out(folder: Path, now: datetime) -> bool:
    """Whether a directory holds a client certificate whose time is over, or a key that never got
    one.

    What holds anything else is not ours to judge.
    """
    try:
        if folder.is_symlink() or not {p.name for p in folder.iterdir()} <= {
            "ca.pem",
            "cert.pem",
            "key.pem",
        }:
            return False
        return (
            x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes()).not_valid_after_utc
            <= now
        )
    except FileNotFoundError:
        return folder.is_dir()
    except (OSError, ValueError):
        return False


def serial_of(pem: str, authority: Authority) -> dict[str, float]:
    """The serial number and the end of a client certificate.

    :raises InvalidInput: when it is none, or another authority's.
    """
    try:
        found = x509.load_pem_x509_certificate(pem.encode())
        found.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise InvalidInput(
            "this is no certificate of the tenant's CA.",
            cause=str(error),
            remedy="give the text of a cert.pem",
        ) from error
    return {f"{found.serial_number:x}": found.not_valid_after_utc.timestamp()}


def _living(serials: Serials, now: datetime) -> dict[str, float]:
    return {serial: end for serial, end in serials.items() if end > now.timestamp()}


def _serials(found: object, path: Path) -> dict[str, float]:
    """Serial numbers out of JSON.

    :raises InvalidInput: when they are something else.
    """
    try:
        return {f"{int(serial, 16):x}": float(end) for serial, end in found.items()}  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidInput(
            "it does not list serial numbers.",
            name=str(path),
            cause=str(error),
            remedy="put it back from a backup",
        ) from error
