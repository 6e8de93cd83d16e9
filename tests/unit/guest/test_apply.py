# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity agent in a directory: the order of things, every file, and where its
keys come from.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stockyard.guest.agent.apply import Identity

NETWORK = {
    "interface": "eth0",
    "mac": "52:54:00:01:02:03",
    "address": "10.0.2.15",
    "netmask": "255.255.255.0",
    "gateway": "",
}
SECRETS = ("etc/ssh/ssh_host_ed25519_key", "var/lib/stockyard/tls/key.pem")


class Guest:
    """A running system whose generator is known to the last bit: what a fork has of its template's
    memory.
    """

    def __init__(self, pool: bytes = b"frozen with the template") -> None:
        self.pool = pool
        self.done: list[tuple[str, ...]] = []

    def reseed(self, entropy: bytes) -> None:
        self.done.append(("reseed",))
        self.pool = hashlib.sha256(self.pool + entropy).digest()

    def random(self, count: int) -> bytes:
        self.done.append(("random",))
        self.pool = hashlib.sha256(self.pool).digest()
        return hashlib.shake_256(self.pool).digest(count)

    def draw(self) -> dict[str, str]:
        return {"kernel": hashlib.sha256(self.pool).hexdigest()}

    def replace_front(self) -> None:
        self.done.append(("replace_front",))

    def kill_logins(self, user: str) -> None:
        self.done.append(("kill_logins", user))

    def set_clock(self, seconds: float) -> None:
        self.done.append(("set_clock", str(seconds)))

    def set_hostname(self, name: str) -> None:
        self.done.append(("set_hostname", name))

    def set_mac(self, interface: str, mac: str) -> str:
        self.done.append(("set_mac", interface, mac))
        return mac

    def set_address(self, interface: str, address: str, netmask: str, gateway: str) -> None:
        self.done.append(("set_address", interface, address, netmask, gateway))

    def own(self, path: str, user: str) -> None:
        self.done.append(("own", os.path.basename(path), user))

    def prioritize(self, on: bool) -> None:
        self.done.append(("prioritize", str(on)))

    def open_gate(self) -> None:
        self.done.append(("open_gate",))

    def reload_front(self, cut: bool) -> None:
        self.done.append(("reload_front", str(cut)))

    def accepts_ssh(self) -> bool:
        return True

    def wait_for_ssh(self) -> None:
        self.done.append(("wait_for_ssh",))

    def sync(self) -> None:
        self.done.append(("sync",))

    def trim(self) -> None:
        return

    def restart_journal(self) -> None:
        self.done.append(("restart_journal",))

    def restart_engine(self) -> None:
        self.done.append(("restart_engine",))

    def set_way_out(self, on: bool) -> None:
        self.done.append(("set_way_out", str(on)))

    def take_down(self, interface: str) -> None:
        self.done.append(("take_down", interface))

    def end_sessions(self, user: str, interface: str) -> None:
        self.done.append(("end_sessions", user, interface))

    @property
    def order(self) -> list[str]:
        """Return the first word of each step."""
        return [entry[0] for entry in self.done]


class WithoutReseed(Guest):
    """The same, with the reseed taken out."""

    def reseed(self, entropy: bytes) -> None:
        self.done.append(("reseed",))


def request(**changes: Any) -> dict[str, Any]:
    """Return the request of a controller, with different entropy for each host."""
    return {
        "op": "identify",
        "entropy": base64.b64encode(os.urandom(64)).decode(),
        "time": 1_800_000_000.5,
        "uuid": "12345678-1234-5678-1234-567812345678",
        "hostname": "web-1",
        "machine_id": "ab" * 16,
        "network": NETWORK,
        "authorized_keys": ["ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"],
        "engine_identity": "shared",
        **changes,
    }


@pytest.fixture
def guest() -> Guest:
    return Guest()


@pytest.fixture
def agent(tmp_path: Path, guest: Guest) -> Identity:
    return Identity(str(tmp_path), guest)


def keys(root: Path, guest: Guest) -> tuple[str, ...]:
    """The private keys that a fork makes."""
    Identity(str(root), guest).identify(request())
    return tuple((root / name).read_text() for name in SECRETS)


def raw(pem: str) -> bytes:
    """Return the secret itself: the rest of an OpenSSH file is random in each file."""
    load = (
        serialization.load_ssh_private_key
        if "OPENSSH" in pem
        else serialization.load_pem_private_key
    )
    key = load(pem.encode(), None)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.private_numbers().private_value.to_bytes(32, "big")
    form = (
        serialization.Encoding.Raw,
        serialization.PrivateFormat.Raw,
        serialization.NoEncryption(),
    )
    return bytes(key.private_bytes(*form))


def test_two_forks_of_one_memory_make_keys_of_their_own(tmp_path: Path) -> None:
    first, second = (keys(tmp_path / name, Guest()) for name in "ab")
    assert [raw(a) != raw(b) for a, b in zip(first, second, strict=True)] == [True, True]


def test_they_do_so_because_of_the_reseed_and_nothing_else(tmp_path: Path) -> None:
    first, second = (keys(tmp_path / name, WithoutReseed()) for name in "ab")
    assert [raw(a) == raw(b) for a, b in zip(first, second, strict=True)] == [True, True]


def test_reseed_is_the_first_step(agent: Identity, guest: Guest) -> None:
    answer = agent.identify(request())
    assert guest.order[0] == "reseed"
    assert guest.order.count("reseed") == 1
    assert answer["audit"] == ["reseed", "clock", "names", "network", "ssh-key", "tls-key"]


def test_effects_come_in_the_order_that_is_promised(agent: Identity, guest: Guest) -> None:
    agent.identify(request())
    agent.renew_certificate({"ca": "CA", "certificate": "CERT", "crl": "LIST"})
    agent.settle()
    assert guest.done == [
        ("reseed",),
        ("set_clock", "1800000000.5"),
        ("set_hostname", "web-1"),
        ("set_mac", "eth0", NETWORK["mac"]),
        ("set_address", "eth0", "10.0.2.15", "255.255.255.0", ""),
        ("random",),
        ("random",),
        ("own", "key.pem.new", "stockyard-tls"),
        ("open_gate",),
        ("prioritize", "False"),
        ("restart_journal",),
        ("sync",),
    ]


def test_uplink_is_set_up_with_the_network_and_after_a_boot(agent: Identity, guest: Guest) -> None:
    uplink = {**NETWORK, "interface": "eth1", "address": "198.18.0.15", "gateway": "198.18.0.1"}
    agent.identify(request(network={**NETWORK, "uplink": uplink}))
    steps = [
        ("set_mac", "eth1", NETWORK["mac"]),
        ("set_address", "eth1", "198.18.0.15", "255.255.255.0", "198.18.0.1"),
    ]
    position = guest.done.index(steps[0])
    assert guest.done[position : position + 2] == steps
    agent.renew_certificate({"ca": "CA", "certificate": "CERT", "crl": "LIST"})
    guest.done.clear()
    agent.resume(open_to_users=False)
    assert guest.done[2:4] == steps


def test_sessions_end_before_the_identity_is_synced(agent: Identity, guest: Guest) -> None:
    agent.enable_ssh({"network": NETWORK, "authorized_keys": ["ssh-ed25519 AAAA one"]})
    guest.done.clear()
    agent.disable_ssh({"user": "stockyard", "network": NETWORK})
    assert guest.done == [("end_sessions", "stockyard", "eth0"), ("sync",)]


def test_kernel_is_seeded_with_the_entropy_of_the_controller(tmp_path: Path) -> None:
    fed: list[bytes] = []

    class Fed(Guest):
        def reseed(self, entropy: bytes) -> None:
            fed.append(entropy)

    Identity(str(tmp_path), Fed()).identify(request(entropy=base64.b64encode(b"x" * 64).decode()))
    assert fed == [b"x" * 64]


def tree(root: Path) -> dict[str, int]:
    """Every file with its mode."""
    return {
        str(p.relative_to(root)): stat.S_IMODE(p.lstat().st_mode)
        for p in root.rglob("*")
        if not p.is_dir()
    }


def test_every_file_and_its_mode(agent: Identity, tmp_path: Path) -> None:
    previous = os.umask(0o077)
    try:
        agent.identify(request())
        agent.renew_certificate({"ca": "CA", "certificate": "CERT", "crl": "LIST"})
    finally:
        os.umask(previous)
    assert tree(tmp_path) == {
        "etc/hostname": 0o644,
        "etc/hosts": 0o644,
        "etc/machine-id": 0o444,
        "etc/ssh/ssh_host_ed25519_key": 0o600,
        "etc/ssh/ssh_host_ed25519_key.pub": 0o644,
        "etc/ssh/stockyard_authorized_keys": 0o644,
        "run/stockyard/open": 0o644,
        "var/lib/dbus/machine-id": 0o777,
        "var/lib/stockyard/identity.json": 0o644,
        "var/lib/stockyard/tls/ca.pem": 0o644,
        "var/lib/stockyard/tls/cert.pem": 0o644,
        "var/lib/stockyard/tls/crl.pem": 0o644,
        "var/lib/stockyard/tls/key.pem": 0o600,
    }


def test_identity_files_have_the_expected_content(agent: Identity, tmp_path: Path) -> None:
    agent.identify(request())
    agent.renew_certificate({"ca": "CA", "certificate": "CERT", "crl": "LIST"})
    assert (tmp_path / "etc/hostname").read_text() == "web-1\n"
    assert "127.0.1.1 web-1\n" in (tmp_path / "etc/hosts").read_text()
    assert (tmp_path / "etc/machine-id").read_text() == "ab" * 16 + "\n"
    assert os.readlink(tmp_path / "var/lib/dbus/machine-id") == "/etc/machine-id"
    assert (
        tmp_path / "etc/ssh/stockyard_authorized_keys"
    ).read_text() == "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\n"
    assert (tmp_path / "var/lib/stockyard/tls/ca.pem").read_text() == "CA"
    assert (tmp_path / "var/lib/stockyard/tls/cert.pem").read_text() == "CERT"
    assert (
        json.loads((tmp_path / "var/lib/stockyard/identity.json").read_text())["uuid"]
        == request()["uuid"]
    )


def test_the_answer_has_the_public_halves_of_the_keys_on_disk(
    agent: Identity, tmp_path: Path
) -> None:
    answer = agent.identify(request())
    ssh = serialization.load_ssh_private_key(
        (tmp_path / SECRETS[0]).read_bytes(), None
    ).public_key()
    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert ssh.public_bytes(*form).decode() == answer["ssh_host_key"]
    assert (
        tmp_path / (SECRETS[0] + ".pub")
    ).read_text() == f"{answer['ssh_host_key']} root@web-1\n"
    tls = serialization.load_pem_private_key((tmp_path / SECRETS[1]).read_bytes(), None)
    csr = x509.load_pem_x509_csr(answer["csr"].encode())
    assert csr.public_key() == tls.public_key()
    assert csr.is_signature_valid
    assert csr.subject.rfc4514_string() == "CN=web-1"
    assert answer["mac"] == NETWORK["mac"]


def test_no_secret_is_in_the_answer_or_in_a_file_that_others_read(
    agent: Identity, tmp_path: Path
) -> None:
    answer = agent.identify(request())
    body = "".join((tmp_path / SECRETS[1]).read_text().splitlines()[1:-1])
    secret = raw((tmp_path / SECRETS[1]).read_text())
    for text in (json.dumps(answer), (tmp_path / "var/lib/stockyard/identity.json").read_text()):
        assert body[:40] not in text
        assert secret.hex() not in text


def test_a_private_key_is_never_readable_not_even_for_a_moment(tmp_path: Path) -> None:
    generations: list[int] = []

    class Watching(Guest):
        def own(self, path: str, user: str) -> None:
            generations.append(stat.S_IMODE(os.stat(path).st_mode))

    Identity(str(tmp_path), Watching()).identify(request())
    assert generations == [0o600]


@pytest.mark.parametrize(("digest", "restarts"), [("shared", 0), ("unique", 1), (None, 0)])
def test_the_engine_gets_an_identity_only_when_asked(
    agent: Identity, guest: Guest, digest: str | None, restarts: int
) -> None:
    answer = agent.identify(request(engine_identity=digest))
    assert guest.order.count("restart_engine") == restarts
    assert answer["audit"].count("engine") == restarts


@pytest.mark.parametrize("entropy", ["***", "AAA", None, 5])
def test_nothing_is_done_without_entropy(
    agent: Identity, guest: Guest, tmp_path: Path, entropy: Any
) -> None:
    with pytest.raises((binascii.Error, TypeError)):
        agent.identify(request(entropy=entropy))
    assert guest.done == []
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    "effect", ["reseed", "set_clock", "set_hostname", "set_mac", "set_address"]
)
def test_failure_before_the_keys_creates_no_key(agent: Identity, guest: Guest, effect: str) -> None:
    def fail(*_arguments: Any) -> None:
        raise OSError("no")

    setattr(guest, effect, fail)
    with pytest.raises(OSError, match="no"):
        agent.identify(request())
    assert "random" not in guest.order
    assert agent.known() is None


def test_services_stay_closed_until_the_certificate_is_installed(
    agent: Identity, guest: Guest, tmp_path: Path
) -> None:
    agent.identify(request())
    assert "open_gate" not in guest.order
    assert not (tmp_path / "run/stockyard/open").exists()
    assert agent.known() is None
    assert not agent.resume()
    agent.renew_certificate({"ca": "CA", "certificate": "CERT", "crl": "LIST"})
    assert (tmp_path / "run/stockyard/open").exists()
    known = agent.known()
    assert known is not None
    assert known["uuid"] == request()["uuid"]


def test_a_guest_that_boots_is_itself_again_and_makes_no_new_keys(
    agent: Identity, tmp_path: Path
) -> None:
    agent.identify(request())
    agent.renew_certificate({"ca": "CA", "certificate": "CERT", "crl": "LIST"})
    (tmp_path / "run/stockyard/open").unlink()
    before = {name: (tmp_path / name).read_bytes() for name in SECRETS}
    booted = Guest()
    assert Identity(str(tmp_path), booted).resume()
    assert booted.order == ["set_mac", "set_address", "open_gate"]
    assert {name: (tmp_path / name).read_bytes() for name in SECRETS} == before


def test_a_guest_without_an_identity_waits(agent: Identity, guest: Guest, tmp_path: Path) -> None:
    assert not agent.resume()
    assert guest.done == []
    assert tree(tmp_path) == {}


def test_files_are_replaced_whole(agent: Identity, tmp_path: Path) -> None:
    agent.identify(request())
    inode = (tmp_path / "etc/hostname").stat().st_ino
    agent.identify(request(hostname="web-2"))
    assert (tmp_path / "etc/hostname").read_text() == "web-2\n"
    assert (tmp_path / "etc/hostname").stat().st_ino != inode
    assert [name for name in tree(tmp_path) if name.endswith(".new")] == []


def identified(root: Path, **more: Any) -> None:
    request = {
        "entropy": "",
        "time": 0,
        "uuid": "u",
        "hostname": "web-1",
        "machine_id": "0" * 32,
        "network": NETWORK,
        "authorized_keys": [],
        **more,
    }
    Identity(str(root), Guest()).identify(request)


def test_proxy_is_added_to_the_environment_of_logins(tmp_path: Path) -> None:
    environment = tmp_path / "etc/environment"
    environment.parent.mkdir()
    environment.write_text("LANG=C.UTF-8")
    identified(tmp_path, proxy="http://10.0.2.15:3128")
    lines = environment.read_text().splitlines()
    assert lines[0] == "LANG=C.UTF-8"
    assert {"http_proxy=http://10.0.2.15:3128", "HTTPS_PROXY=http://10.0.2.15:3128"} < set(lines)
    assert "no_proxy=localhost,127.0.0.1,10.0.2.15" in lines


@pytest.mark.parametrize("more", [{}, {"proxy": ""}])
def test_without_a_proxy_the_environment_is_the_images(
    tmp_path: Path, more: dict[str, str]
) -> None:
    identified(tmp_path, **more)
    assert not (tmp_path / "etc/environment").exists()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "nameserver 192.0.2.53\n"),
        ({"nameserver": "192.0.2.1"}, "nameserver 192.0.2.1\n"),
        # Its own address: the guest has no way out, and nothing of it may wait.
        (
            {"nameserver": NETWORK["address"]},
            f"nameserver {NETWORK['address']}\noptions timeout:1 attempts:1\n",
        ),
    ],
)
def test_name_server_of_the_network_is_used(
    guest: Guest, tmp_path: Path, files: dict[str, str], says: str
) -> None:
    """The settings of the image are kept if the network has no name server."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    Identity(str(tmp_path), guest).identify(request(network={**NETWORK, **files}))
    assert (tmp_path / "etc" / "resolv.conf").read_text() == says


@pytest.mark.parametrize(
    ("nameserver", "proxy", "closed"),
    [
        (NETWORK["address"], "", True),
        (NETWORK["address"], "http://10.0.2.15:3128", False),
        ("192.0.2.1", "", False),
        ("", "", False),
    ],
)
def test_apt_without_egress_tries_once(
    tmp_path: Path, nameserver: str, proxy: str, closed: bool
) -> None:
    identified(tmp_path, network={**NETWORK, "nameserver": nameserver}, proxy=proxy)
    assert (tmp_path / "etc/apt/apt.conf.d/80stockyard").exists() is closed
