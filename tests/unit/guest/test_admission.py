# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent admits its host again: its key stays, its front takes up new files."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from stockyard.guest import texts
from stockyard.guest.agent import effects, wire
from stockyard.guest.agent.apply import Identity
from stockyard.guest.agent.main import Agent
from stockyard.providers.memory.guest import NoEffects

IDENTIFY = {
    "entropy": "",
    "time": 0,
    "hostname": "web-1",
    "machine_id": "0" * 32,
    "uuid": "u",
    "network": {"interface": "eth0", "mac": "m", "address": "a", "netmask": "n", "gateway": ""},
    "authorized_keys": ["key one"],
}
ADMIT = {"ca": "CA", "certificate": "CERTIFICATE", "crl": "LIST"}


class Watched(NoEffects):
    """Notes what happens to the front, and what lay on disk then."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen: list[tuple[str, str]] = []

    def _note(self, event: str) -> None:
        tls = self.root / "var/lib/stockyard/tls"
        self.seen.append(
            (event, " ".join((tls / f"{n}.pem").read_text() for n in ("ca", "crl", "cert")))
        )

    def open_gate(self) -> None:
        self._note("open")

    def reload_front(self, cut: bool) -> None:
        self._note("cut" if cut else "reload")


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


@pytest.fixture
def identity(tmp_path: Path, watched: Watched) -> Identity:
    identity = Identity(str(tmp_path), watched)
    identity.identify(IDENTIFY)
    return identity


def asked(identity: Identity, **request: Any) -> dict[str, Any]:
    return Agent(identity).answer(wire.encode({"id": 1, **request}))


def test_front_starts_once_and_reloads_afterwards(identity: Identity, watched: Watched) -> None:
    identity.renew_certificate(ADMIT)
    identity.renew_certificate({**ADMIT, "certificate": "SECOND"})
    identity.renew_certificate({"ca": "NEW", "certificate": "THIRD", "crl": "LONGER", "cut": True})
    assert watched.seen == [
        ("open", "CA LIST CERTIFICATE"),
        ("reload", "CA LIST SECOND"),
        ("cut", "NEW LONGER THIRD"),
    ]


def test_front_reloads_after_a_boot(identity: Identity, watched: Watched, tmp_path: Path) -> None:
    identity.renew_certificate(ADMIT)
    (tmp_path / "run/stockyard/open").unlink()
    identity_after_restart = Identity(str(tmp_path), watched)
    assert identity_after_restart.resume()
    identity_after_restart.renew_certificate(ADMIT)
    assert [event for event, _details in watched.seen] == ["open", "open", "reload"]


def test_signing_request_contains_the_key_on_disk_only(identity: Identity, tmp_path: Path) -> None:
    identity.renew_certificate(ADMIT)
    private = (tmp_path / "var/lib/stockyard/tls/key.pem").read_bytes()
    answer = asked(identity, op="csr")
    assert set(answer) == {"agent", "csr", "id", "ok"}
    csr = x509.load_pem_x509_csr(answer["csr"].encode())
    assert csr.is_signature_valid
    assert csr.public_key() == serialization.load_pem_private_key(private, None).public_key()
    assert (tmp_path / "var/lib/stockyard/tls/key.pem").read_bytes() == private
    assert "PRIVATE" not in str(answer)


def test_signing_request_without_an_identity_is_refused(tmp_path: Path, watched: Watched) -> None:
    answer = asked(Identity(str(tmp_path), watched), op="csr")
    assert answer["ok"] is False
    assert "FileNotFoundError" in answer["error"]


def test_ssh_keys_change_only_when_they_are_sent(identity: Identity, tmp_path: Path) -> None:
    keys = tmp_path / "etc/ssh/stockyard_authorized_keys"
    identity.renew_certificate(ADMIT)
    identity.renew_certificate({**ADMIT, "authorized_keys": []})
    assert keys.read_text() == "key one\n"
    identity.renew_certificate({**ADMIT, "authorized_keys": ["two", "three"]})
    assert keys.read_text() == "two\nthree\n"


@pytest.mark.parametrize("operation", ["", None, 3, [], {}, "identify2"])
def test_unknown_operation_is_refused(identity: Identity, operation: object) -> None:
    answer = asked(identity, op=operation)
    assert answer["ok"] is False
    assert "unknown operation" in answer["error"]


@pytest.mark.parametrize(("cut", "expected"), [(False, signal.SIGHUP), (True, signal.SIGTERM)])
def test_only_the_fronts_own_processes_are_signalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: bool, expected: int
) -> None:
    sent: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        sent.append((pid, number))
        if pid == 11:
            raise ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(effects, "FRONT_PROCESSES", str(tmp_path / "cgroup.procs"))
    effects.LinuxEffects().reload_front(cut)
    assert sent == []
    (tmp_path / "cgroup.procs").write_text("11\n12\n")
    effects.LinuxEffects().reload_front(cut)
    assert sent == [(11, expected), (12, expected)]


def test_front_checks_the_revocation_list_and_restarts() -> None:
    assert "CRLfile = /var/lib/stockyard/tls/crl.pem\n" in texts.STUNNEL_CONF
    assert "StartLimitIntervalSec=0\n" in texts.TLS_UNIT
    assert "Restart=always\n" in texts.TLS_UNIT
