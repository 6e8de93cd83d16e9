# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controllers that share a yard, and the certificate files of its hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from stockyard import (
    Client,
    FleetSpec,
    HostInfo,
    SingleSpec,
    Yard,
)
from stockyard.pki.authority import Authority
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.simulated_machines import disk_of
from tests.helpers.values import present

FLEET = FleetSpec("ci", "base", count=2)
ALONE = SingleSpec("alone", "base")
GUEST = Client("guest")
DAY = 86400.0
KEPT = ("uuid", "address", "mac", "created", "generation", "state", "mode")


class Controllers:
    """Controllers of one yard, each with a home of its own."""

    def __init__(self, hypervisor: FaultyProvider, clock: FakeClock, root: Path) -> None:
        self.hypervisor, self.clock, self.root = hypervisor, clock, root
        self.lines: list[str] = []

    def __call__(self, home: str, authority: Authority | None = None) -> Yard:
        arguments: dict[str, Any] = {}
        if authority:
            arguments = {"ca_certificate": authority.pem(), "ca_private_key": authority.key_pem()}
        return Yard(
            provider=self.hypervisor.as_provider(),
            clock=self.clock,
            pki_dir=str(self.root / home),
            progress=self.lines.append,
            **arguments,
        )

    def folder(self, home: str) -> Path:
        return self.root / home / "stockyard" / "default"


class GuestFiles:
    """Write the TLS files of a host as its TLS front reads them."""

    def __init__(self, host: HostInfo) -> None:
        self.disk = disk_of(host)
        tls = self.disk / "var/lib/stockyard/tls"
        self.ca = x509.load_pem_x509_certificate((tls / "ca.pem").read_bytes())
        self.certificate = x509.load_pem_x509_certificate((tls / "cert.pem").read_bytes())
        self.crl = x509.load_pem_x509_crl((tls / "crl.pem").read_bytes())
        self.key = serialization.load_pem_private_key((tls / "key.pem").read_bytes(), None)

    @property
    def serial(self) -> str:
        return f"{self.certificate.serial_number:x}"

    @property
    def keys(self) -> str:
        return (self.disk / "etc/ssh/stockyard_authorized_keys").read_text()

    def admits(self, folder: Path) -> bool:
        """Whether the front lets a client in, by the rules of `verifyChain` and `CRLfile`."""
        client = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
        if client.issuer != self.ca.subject or not self.crl.is_signature_valid(
            self.ca.public_key()  # type: ignore[arg-type]
        ):
            return False
        try:
            client.verify_directly_issued_by(self.ca)
        except Exception:  # noqa: BLE001  # whatever says no
            return False
        return self.crl.get_revoked_certificate_by_serial_number(client.serial_number) is None


def assert_consistent(host: HostInfo) -> None:
    """Certificate, key, CA, list and record of a host belong together."""
    guest = GuestFiles(host)
    guest.certificate.verify_directly_issued_by(guest.ca)
    assert guest.key.public_key() == guest.certificate.public_key()
    assert guest.crl.is_signature_valid(guest.ca.public_key())  # type: ignore[arg-type]
    assert guest.crl.next_update_utc == guest.ca.not_valid_after_utc
    assert guest.serial == present(host.identity).certificate
    assert guest.certificate.not_valid_after_utc.timestamp() == present(host.identity).not_after
    assert host.drift == ()


def assert_same_host(before: HostInfo, after: HostInfo) -> None:
    assert [getattr(after, k) for k in KEPT] == [getattr(before, k) for k in KEPT]
    assert GuestFiles(after).key.public_key() == GuestFiles(before).key.public_key()
    for fact in ("machine_id", "ssh_host_key"):
        assert getattr(after.identity, fact) == getattr(before.identity, fact)


def plan_lines(result: Any) -> list[str]:
    return [f"{a.verb} {a.name}" for a in result.plan.actions]


def file_contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# Handed over


def lose_authority(controllers: Controllers) -> None:
    for part in ("ca.pem", "ca-key.pem"):
        (controllers.folder("pki") / part).rename(controllers.root / part)
