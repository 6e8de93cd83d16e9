# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tenant's keys on disk: made once, renewed when due, lost and found."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from stockyard.errors import InvalidInput, StockyardError
from stockyard.model.access_info import ssh_config_entry
from stockyard.pki.authority import CLIENT_DAYS, Authority
from stockyard.pki.store import Pki

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "home" / "tenant", "owner/tenant")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def certificate(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_authority_is_created_once(pki: Pki) -> None:
    first = pki.authority(NOW)
    assert pki.authority(NOW + timedelta(days=1)).pem() == first.pem()
    assert Pki(pki.directory, "owner/tenant").authority(NOW).key_pem() == first.key_pem()
    assert "owner/tenant" in first.certificate.subject.rfc4514_string()


def test_private_keys_are_readable_by_their_owner_only(pki: Pki) -> None:
    pki.client(NOW)
    pki.operator_key()
    assert mode(pki.directory) == 0o700
    for path in (pki.directory / "ca-key.pem", pki.client_directory / "key.pem", pki.ssh_key):
        assert mode(path) == 0o600
    leftovers = [name for name in files(pki.directory) if name.startswith(".") and name != ".lock"]
    assert leftovers == []


@pytest.mark.parametrize("lost", ["ca.pem", "ca-key.pem"])
def test_half_lost_authority_is_an_error_and_is_not_created_again(pki: Pki, lost: str) -> None:
    pki.client(NOW)
    (pki.directory / lost).unlink()
    before = files(pki.directory)
    with pytest.raises(InvalidInput, match=f"{lost} is missing"):
        pki.authority(NOW)
    with pytest.raises(InvalidInput):
        pki.client(NOW)
    assert files(pki.directory) == before


def test_interrupted_creation_of_an_authority_is_completed(pki: Pki) -> None:
    whole = Pki(pki.directory.parent / "other", "owner/tenant").authority(NOW)
    pki.directory.mkdir(parents=True)
    (pki.directory / ".ca-key.pem.new").write_text(whole.key_pem())
    (pki.directory / "ca.pem").write_text(whole.pem())
    assert pki.authority(NOW).key_pem() == whole.key_pem()
    for part in ("ca.pem", "ca-key.pem"):
        (pki.directory / part).unlink()
    (pki.directory / ".ca-key.pem.new").write_text("half a k")
    assert pki.authority(NOW).pem() != whole.pem()


def test_many_controllers_make_one_authority(pki: Pki) -> None:
    # Each opens the lock file for itself, as processes do.
    with ThreadPoolExecutor(8) as pool:
        authorities = set(
            pool.map(
                lambda number: Pki(pki.directory, f"owner/{number}").authority(NOW).pem(), range(8)
            )
        )
    assert len(authorities) == 1


@pytest.mark.parametrize("text", [b"", b"garbage", b"\xff\xfe\x00"])
@pytest.mark.parametrize("part", ["ca.pem", "ca-key.pem"])
def test_a_damaged_authority_is_an_error_in_our_words(pki: Pki, part: str, text: bytes) -> None:
    pki.authority(NOW)
    (pki.directory / part).write_bytes(text)
    with pytest.raises(InvalidInput, match="cannot be read"):
        pki.authority(NOW)
    assert (pki.directory / part).read_bytes() == text


def test_an_authority_that_was_given_is_used_and_never_written(pki: Pki) -> None:
    authority = Authority.create("given", NOW)
    tenant_pki = Pki(pki.directory, "owner/tenant", authority.pem(), authority.key_pem())
    assert tenant_pki.authority(NOW).pem() == authority.pem()
    folder = tenant_pki.client(NOW)
    certificate(folder).verify_directly_issued_by(authority.certificate)
    assert (folder / "ca.pem").read_text() == authority.pem()
    key = authority.key_pem().encode()
    assert not any(
        key in content or b"EC PRIVATE" in content for content in files(pki.directory).values()
    )
    assert not (pki.directory / "ca-key.pem").exists()


@pytest.mark.parametrize("half", [("x", ""), ("", "x")])
def test_half_a_given_authority_is_refused(tmp_path: Path, half: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput, match="the CA is incomplete"):
        Pki(tmp_path, "owner/tenant", *half)


def test_client_certificate_is_kept_until_its_renewal(pki: Pki) -> None:
    first = certificate(pki.client(NOW)).serial_number
    due = NOW + timedelta(days=CLIENT_DAYS * 2 / 3)
    assert certificate(pki.client(due - timedelta(hours=1))).serial_number == first
    renewed = certificate(pki.client(due + timedelta(hours=1)))
    assert renewed.serial_number != first
    assert renewed.not_valid_after_utc > due + timedelta(days=CLIENT_DAYS - 1)


def test_client_certificate_is_replaced_with_its_key(pki: Pki) -> None:
    folder = pki.client(NOW)
    key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
    assert key.public_key() == certificate(folder).public_key()


@pytest.mark.parametrize("part", ["cert.pem", "key.pem", "ca.pem"])
@pytest.mark.parametrize("text", [None, "", "garbage"])
def test_damaged_client_certificate_is_issued_again(pki: Pki, part: str, text: str | None) -> None:
    folder = pki.client(NOW)
    (folder / part).unlink() if text is None else (folder / part).write_text(text)
    test_client_certificate_is_replaced_with_its_key(pki)
    assert (folder / "ca.pem").read_text() == pki.authority(NOW).pem()


def test_a_key_of_another_certificate_is_noticed(pki: Pki) -> None:
    # As a controller leaves it that dies between the two files.
    folder = pki.client(NOW)
    (folder / "key.pem").write_text(pki.authority(NOW).issue_client("other", NOW)[1])
    test_client_certificate_is_replaced_with_its_key(pki)


def test_another_authority_means_another_client_certificate(pki: Pki) -> None:
    folder = pki.client(NOW)
    first = certificate(folder).serial_number
    authority = Authority.create("given", NOW)
    Pki(pki.directory, "owner/tenant", authority.pem(), authority.key_pem()).client(NOW)
    assert certificate(folder).serial_number != first
    certificate(folder).verify_directly_issued_by(authority.certificate)


def test_the_operator_has_one_ssh_key(pki: Pki) -> None:
    public = pki.operator_key()
    assert public.startswith("ssh-ed25519 ")
    assert "\n" not in public
    assert pki.operator_key() == public
    pki.ssh_key.with_suffix(".pub").unlink()
    assert pki.operator_key() == public


def test_a_public_key_without_its_private_one_is_of_no_use(pki: Pki) -> None:
    public = pki.operator_key()
    pki.ssh_key.unlink()
    assert pki.operator_key() != public


def test_unreadable_operator_key_is_an_error(pki: Pki) -> None:
    pki.operator_key()
    pki.ssh_key.write_text("garbage")
    pki.ssh_key.with_suffix(".pub").unlink()
    with pytest.raises(InvalidInput, match="SSH key"):
        pki.operator_key()


def test_pinned_keys_are_written_sorted_and_only_when_they_changed(pki: Pki) -> None:
    pki.pin(["b", "a"])
    assert pki.known_hosts.read_text() == "a\nb\n"
    inode = pki.known_hosts.stat().st_ino
    pki.pin(["a", "b"])
    assert pki.known_hosts.stat().st_ino == inode
    pki.pin([])
    assert pki.known_hosts.read_text() == ""


def test_names_of_hosts_on_several_hypervisors_are_in_one_file(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "a b %h", "me/default")
    pki.configure_ssh("Host a\n    HostName 127.64.0.1\n", "qemu:///session")
    path = pki.configure_ssh("Host b\n    HostName 192.0.2.1\n", "qemu:///system")
    for name, address in (("a", "127.64.0.1"), ("b", "192.0.2.1"), ("c", "c")):
        argv = ["ssh", "-F", str(path), "-G", name]
        settings = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        assert f"hostname {address}\n" in settings


def test_names_of_hosts_are_written_in_a_directory_with_other_letters(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "schlüssel", "me/default")
    key = str(pki.ssh_key)
    entry = ssh_config_entry("a", "127.64.0.1", 2222, "root", str(pki.known_hosts), key)
    path = pki.configure_ssh(entry, "qemu:///session")
    argv = ["ssh", "-F", str(path), "-G", "a"]
    settings = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert f"identityfile {key}\n" in settings


@pytest.mark.parametrize(
    "call",
    [
        lambda p: p.authority(NOW),
        lambda p: p.client(NOW),
        lambda p: p.operator_key(),
        lambda p: p.pin(["a"]),
    ],
    ids=["authority", "client", "operator_key", "pin"],
)
def test_unusable_directory_raises_a_stockyard_error(
    tmp_path: Path, call: Callable[[Pki], object]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StockyardError, match="pki_dir"):
        call(Pki(tmp_path / "file" / "tenant", "owner/tenant"))


def test_directory_in_place_of_a_file_raises_a_stockyard_error(pki: Pki) -> None:
    pki.authority(NOW)
    (pki.directory / "ca.pem").unlink()
    (pki.directory / "ca.pem").mkdir()
    with pytest.raises(StockyardError, match="cannot be used"):
        pki.authority(NOW)


@pytest.mark.parametrize("part", ["", "inner"])
def test_key_is_not_written_to_a_directory_that_all_users_control(
    pki: Pki, tmp_path: Path, part: str
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    folder = shared / part
    with pytest.raises(InvalidInput, match="not safe for keys") as caught:
        pki.issue("ci", folder, NOW)
    assert caught.value.name == str(folder)
    assert f"chmod o-w {shared}," in caught.value.remedy
    assert files(shared) == {}
    # Users cannot replace the files of others in a directory like /tmp.
    shared.chmod(0o1777)
    assert pki.issue("ci", folder, NOW) == folder


@pytest.mark.parametrize("part", ["", "inner"])
def test_key_is_not_written_to_a_directory_of_another_user(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    pki.authority(NOW)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    path_stat = Path.stat

    def stat_of(path: Path, **options: bool) -> os.stat_result:
        status = path_stat(path, **options)
        uid = 4711 if path == foreign else status.st_uid
        return os.stat_result([*status[:4], uid, *status[5:10]])

    monkeypatch.setattr(Path, "stat", stat_of)
    with pytest.raises(InvalidInput, match="foreign belongs to user 4711") as caught:
        pki.issue("ci", foreign / part, NOW)
    assert caught.value.remedy == "run as user 4711, or set a directory of this user"
    assert files(foreign) == {}


def test_lock_of_a_directory_follows_no_link(pki: Pki, tmp_path: Path) -> None:
    pki.directory.mkdir(parents=True)
    (pki.directory / ".lock").symlink_to(tmp_path / "created")
    with pytest.raises(StockyardError, match="cannot be used"):
        pki.authority(NOW)
    assert not (tmp_path / "created").exists()
