# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of an identity: what it sends, and whose answers it does not take."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from stockyard.clock import Deadline
from stockyard.errors import GuestError
from stockyard.guest.agent.main import AGENT
from stockyard.guest.client import Guest
from stockyard.model.host import HostRecord, HostSpec
from stockyard.pki.store import Pki
from stockyard.providers.open import open_provider
from stockyard.resources.context import Context
from stockyard.resources.hosts.identity import ENTROPY_BYTES, identify
from tests.helpers.clocks import FakeClock
from tests.helpers.samples import host_record

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG5PyObBkKWPqZLiQHfJ8gdhiGJmJUNt8WluiUp+fbmL"
OWN = "ssh-ed25519 AAAA me@home"


def csr(key: Any = None, subject: str = "web-1") -> str:
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, subject)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    certificate = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


class FakeChannel:
    """An agent that says what it is told to."""

    def __init__(self, record: HostRecord, **answer: Any) -> None:
        self.agent = AGENT
        self.heard: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {
            "mac": record.mac,
            "ssh_host_key": KEY,
            "csr": csr(),
            **answer,
        }

    def request(self, message: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        self.heard.append(message)
        return {**self.answer, "agent": self.agent} if message["op"] == "identify" else {}

    def close(self) -> None:
        return


def guest_of(channel: FakeChannel) -> Guest:
    return Guest(channel, "host web-1", Deadline(5))


@pytest.fixture
def context(tmp_path: Path) -> Context:
    hypervisor = open_provider(f"memory://{tmp_path}/hypervisor")
    return Context(
        hypervisor, "stockyard", lambda tenant: Pki(tmp_path / tenant, tenant), FakeClock()
    )


@pytest.fixture
def record() -> HostRecord:
    return host_record(name="web-1", address="127.64.1.2")


def test_a_good_answer_is_an_identity(context: Context, record: HostRecord) -> None:
    guest = FakeChannel(record)
    identity = identify(context, record, guest_of(guest))
    admit = guest.heard[1]
    certificate = x509.load_pem_x509_certificate(admit["certificate"].encode())
    certificate.verify_directly_issued_by(
        context.pki("default").authority(context.today()).certificate
    )
    assert admit["op"] == "renew-certificate"
    first, second = x509.load_pem_x509_certificates(admit["ca"].encode())
    authority = context.pki("default").authority(context.today())
    assert first == authority.certificate
    assert (
        second.public_key()
        == authority.of_leases(record.uuid, context.today()).certificate.public_key()
    )
    assert admit["crl"].count("BEGIN X509 CRL") == 2
    assert identity.leasable
    assert identity.ssh_host_key == KEY
    assert identity.certificate == f"{certificate.serial_number:x}"
    assert identity.not_after == certificate.not_valid_after_utc.timestamp()
    assert identity.machine_id == guest.heard[0]["machine_id"]


def test_guest_gets_its_complete_identity(context: Context, record: HostRecord) -> None:
    guest, other_channel = FakeChannel(record), FakeChannel(record)
    identify(context, record, guest_of(guest))
    identify(context, record, guest_of(other_channel))
    sent = guest.heard[0]
    assert (sent["op"], sent["uuid"], sent["hostname"]) == ("identify", record.uuid, "web-1")
    assert sent["time"] == context.clock.now()
    assert sent["network"]["mac"] == record.mac
    assert len(base64.b64decode(sent["entropy"], validate=True)) == ENTROPY_BYTES
    for fact in ("entropy", "machine_id"):
        assert sent[fact] != other_channel.heard[0][fact]


def test_nothing_private_is_sent_to_a_guest(context: Context, record: HostRecord) -> None:
    guest = FakeChannel(record)
    identify(context, record, guest_of(guest))
    assert "PRIVATE KEY" not in str(guest.heard)


def test_the_operators_key_gets_in_where_no_other_is_named(
    context: Context, record: HostRecord
) -> None:
    guest, other_record = FakeChannel(record), host_record(spec=HostSpec(authorized_keys=(OWN,)))
    identify(context, record, guest_of(guest))
    assert guest.heard[0]["authorized_keys"] == [context.pki("default").operator_key()]
    other_channel = FakeChannel(other_record)
    identify(context, other_record, guest_of(other_channel))
    assert other_channel.heard[0]["authorized_keys"] == [OWN]


def rsa_request() -> str:
    return csr(rsa.generate_private_key(65537, 2048))


HOSTILE: dict[str, Callable[[], dict[str, Any]]] = {
    "no host key": lambda: {"ssh_host_key": None},
    "host key of another type": lambda: {"ssh_host_key": KEY.replace("ed25519", "rsa")},
    "host key with a newline last": lambda: {"ssh_host_key": KEY + "\n"},
    "host key with a line of its own": lambda: {"ssh_host_key": f"{KEY}\n@cert-authority * {KEY}"},
    "host key with a comment": lambda: {"ssh_host_key": KEY + " root@x"},
    "host key too long": lambda: {"ssh_host_key": KEY + "A" * 100_000},
    "host key in a list": lambda: {"ssh_host_key": [KEY]},
    "host key with other digits": lambda: {"ssh_host_key": KEY[:-1] + "٣"},
    "wrong mac": lambda: {"mac": "52:54:00:00:00:01"},
    "mac too long": lambda: {"mac": "5" * 100_000},
    "no mac": lambda: {"mac": None},
    "no request": lambda: {"csr": None},
    "request in a list": lambda: {"csr": ["x"]},
    "garbage for a request": lambda: {"csr": "garbage"},
    "request with another curve": lambda: {"csr": csr(ec.generate_private_key(ec.SECP384R1()))},
    "rsa request": lambda: {"csr": rsa_request()},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_answer_is_not_taken(context: Context, record: HostRecord, case: str) -> None:
    guest = FakeChannel(record, **HOSTILE[case]())
    with pytest.raises(GuestError) as caught:
        identify(context, record, guest_of(guest))
    assert [message["op"] for message in guest.heard] == ["identify"]
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


def test_signing_request_with_other_names_gets_the_recorded_names(
    context: Context, record: HostRecord
) -> None:
    guest = FakeChannel(record, csr=csr(subject="hypervisor.example"))
    identify(context, record, guest_of(guest))
    certificate = x509.load_pem_x509_certificate(guest.heard[1]["certificate"].encode())
    assert certificate.subject.rfc4514_string() == "CN=web-1"


def test_a_guest_that_refuses_the_certificate_has_no_identity(
    context: Context, record: HostRecord
) -> None:
    class Refusing(FakeChannel):
        def request(self, message: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
            if message["op"] == "renew-certificate":
                raise GuestError("no.")
            return super().request(message, deadline)

    with pytest.raises(GuestError):
        identify(context, record, guest_of(Refusing(record)))
