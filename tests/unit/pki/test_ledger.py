# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of revoked certificates: what an authority signs, and what a directory keeps."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from stockyard.errors import InvalidInput
from stockyard.pki.authority import Authority
from stockyard.pki.store import Pki
from tests.helpers.values import present

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SOON = (NOW + timedelta(days=30)).timestamp()


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "tenant", "owner/tenant")


def listed(pem: str) -> set[str]:
    return {f"{entry.serial_number:x}" for entry in x509.load_pem_x509_crl(pem.encode())}


def test_a_list_lasts_as_long_as_its_authority() -> None:
    authority = Authority.create("a", NOW)
    crl = x509.load_pem_x509_crl(authority.sign_crl(["ff", "1"], NOW).encode())
    assert crl.is_signature_valid(authority.key.public_key())
    assert crl.issuer == authority.certificate.subject
    assert crl.next_update_utc == authority.certificate.not_valid_after_utc
    assert crl.last_update_utc < NOW
    assert [entry.serial_number for entry in crl] == [1, 255]


def test_an_authority_that_may_not_sign_lists_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "own")])
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    able = Authority(builder.sign(key, hashes.SHA256()), key)
    assert Authority.from_pem(able.pem(), able.key_pem()).fingerprint == able.fingerprint
    unable = Authority(builder.add_extension(usage, critical=True).sign(key, hashes.SHA256()), key)
    with pytest.raises(
        InvalidInput, match="the CA's certificate does not allow lists of revoked certificates"
    ):
        Authority.from_pem(unable.pem(), unable.key_pem())


def test_looking_makes_nothing(pki: Pki) -> None:
    assert pki.existing_authority() is None
    assert pki.revoked(NOW) == {}
    assert pki.issued("bob") == {}
    assert not pki.is_issued(pki.directory_of("bob"), NOW)
    pki.revoke({}, NOW)
    assert not pki.directory.exists()


def test_revocations_are_equal_after_writing_and_reading(pki: Pki) -> None:
    authority = pki.authority(NOW)
    assert pki.existing_authority().pem() == authority.pem()  # type: ignore[union-attr]
    # Its maker died before the last step.
    (pki.directory / "ca-key.pem").rename(pki.directory / ".ca-key.pem.new")
    assert pki.existing_authority().key_pem() == authority.key_pem()  # type: ignore[union-attr]
    (pki.directory / ".ca-key.pem.new").unlink()
    with pytest.raises(InvalidInput, match="the CA is incomplete:"):
        pki.existing_authority()


def test_revocation_list_is_signed_again_only_if_necessary(pki: Pki) -> None:
    first = pki.crl(NOW)
    assert listed(first) == set()
    assert pki.crl(NOW + timedelta(days=1)) == first
    pki.revoke({"AB": SOON}, NOW)
    second = pki.crl(NOW)
    assert listed(second) == {"ab"}
    for part in ("ca.pem", "ca-key.pem"):
        (pki.directory / part).unlink()
    third = x509.load_pem_x509_crl(pki.crl(NOW).encode())
    assert third.is_signature_valid(pki.authority(NOW).key.public_key())


@pytest.mark.parametrize("text", ["", "garbage"])
def test_damaged_revocation_list_is_signed_again(pki: Pki, text: str) -> None:
    pki.revoke({"ab": SOON}, NOW)
    pki.crl(NOW)
    (pki.directory / "crl.pem").write_text(text)
    assert listed(pki.crl(NOW)) == {"ab"}


def test_revocations_add_up_until_they_run_out(pki: Pki) -> None:
    pki.revoke({"a": SOON}, NOW)
    pki.revoke({"b": SOON + 86400}, NOW)
    assert set(pki.revoked(NOW)) == {"a", "b"}
    later = NOW + timedelta(days=30, hours=1)
    assert set(pki.revoked(later)) == {"b"}
    assert listed(pki.crl(later)) == {"b"}


def test_nothing_is_lost_when_many_revoke_and_issue_at_once(pki: Pki) -> None:
    def work(number: int) -> None:
        tenant_pki = Pki(pki.directory, "owner/tenant")
        tenant_pki.issue(f"client-{number}", pki.directory_of(f"client-{number}"), NOW)
        tenant_pki.revoke({f"{number + 1:x}": SOON}, NOW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert len(pki.revoked(NOW)) == 16
    assert all(len(pki.issued(f"client-{number}")) == 1 for number in range(16))


def test_every_certificate_of_a_name_is_on_record(pki: Pki) -> None:
    folder = pki.directory_of("bob")
    pki.issue("bob", folder, NOW, 30)
    pki.issue("bob", folder, NOW + timedelta(days=25), 30)
    assert len(pki.issued("bob")) == 2
    pki.issue("bob", folder, NOW + timedelta(days=50), 30)
    assert len(pki.issued("bob")) == 2
    assert oct((pki.directory / "clients.json").stat().st_mode)[-3:] == "600"


def test_an_authority_is_read_while_another_controller_completes_it(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = pki.authority(NOW)
    key, fresh_key = pki.directory / "ca-key.pem", pki.directory / ".ca-key.pem.new"
    key.rename(fresh_key)

    def complete_and_read(path: Path) -> str:
        if path == fresh_key:
            fresh_key.rename(key)
        return path.read_text()

    monkeypatch.setattr("stockyard.pki.store.text", complete_and_read)
    assert present(pki.existing_authority()).key_pem() == authority.key_pem()
