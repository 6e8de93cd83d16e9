# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The traces of a host that are deleted in a fork that becomes a template."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockyard.guest.agent.apply import AUTHORIZED, HOST_KEY, OPEN_FLAG, STATE, Identity
from stockyard.providers.memory.guest import NoEffects

REQUEST = {
    "entropy": "AA==",
    "user": "debian",
    "machine_id": "f" * 32,
    "network": {"interface": "eth0", "mac": "52:54:00:00:00:01"},
}
DELETED = (
    *(f"{STATE}/{name}" for name in ("identity.json", "volumes.json", "tls/key.pem")),
    *(AUTHORIZED, HOST_KEY, OPEN_FLAG, "etc/apt/apt.conf.d/80stockyard"),
    *("root/.ssh/id_ed25519", "home/debian/.ssh/known_hosts", "home/debian/.docker/config.json"),
    *("root/.bash_history", "home/debian/.python_history", "home/debian/.lesshst"),
    *("run/log/journal/a/system.journal", "var/lib/systemd/random-seed", "var/lib/dhcp/leases"),
)
EMPTIED = (
    *("var/log/syslog", "var/log/apt/history.log", "var/log/journal/a/system.journal"),
    "var/lib/docker/containers/c/c-json.log",
    "home/debian/.local/share/docker/containers/c/c-json.log.1",
)
KEPT = (
    *("srv/data", "root/notes", "home/debian/.profile", "var/lib/docker/containers/c/config.json"),
    *("etc/ssh/sshd_config", f"{STATE}/packages.json"),
)


class Steps(NoEffects):
    """The effects, in their order."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def reseed(self, entropy: bytes) -> None:
        self.steps.append("reseed")

    def kill_logins(self, user: str) -> None:
        self.steps.append(f"kill logins of {user}")

    def replace_front(self) -> None:
        self.steps.append("replace front")

    def end_sessions(self, user: str, interface: str) -> None:
        self.steps.append(f"end sessions, {interface} down")

    def set_mac(self, interface: str, mac: str) -> str:
        self.steps.append(f"MAC {mac}")
        return mac

    def set_hostname(self, name: str) -> None:
        self.steps.append(f"name {name}")

    def restart_journal(self) -> None:
        self.steps.append("restart journal")

    def trim(self) -> None:
        self.steps.append("trim")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (*DELETED, *EMPTIED, *KEPT):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of the host")
    (tmp_path / STATE / "identity.json").write_text("{}")
    return tmp_path


def test_traces_are_deleted_and_files_of_users_stay(root: Path) -> None:
    Identity(str(root), NoEffects()).scrub(REQUEST)
    assert [name for name in DELETED if (root / name).exists()] == []
    assert [name for name in EMPTIED if (root / name).read_text()] == []
    assert [name for name in KEPT if (root / name).read_text() != "of the host"] == []
    assert (root / "etc/hostname").read_text() == "localhost\n"
    assert (root / "etc/machine-id").read_text() == f"{'f' * 32}\n"


def test_logins_end_before_their_traces_are_deleted_and_the_disk_is_trimmed_last(
    root: Path,
) -> None:
    effects = Steps()
    Identity(str(root), effects).scrub(REQUEST)
    assert effects.steps == [
        "reseed",
        "kill logins of debian",
        "replace front",
        "end sessions, eth0 down",
        "name localhost",
        "MAC 52:54:00:00:00:01",
        "restart journal",
        "trim",
    ]


def test_only_the_proxy_is_removed_from_the_environment(root: Path) -> None:
    environment = root / "etc/environment"
    environment.write_text("LANG=C\nhttp_proxy=http://p\nHTTPS_PROXY=http://p\nno_proxy=x\n")
    Identity(str(root), NoEffects()).scrub(REQUEST)
    assert environment.read_text() == "LANG=C\n"


def test_links_are_deleted_and_not_followed(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "file"
    outside.write_text("kept")
    (root / "home/debian/.zsh_history").symlink_to(outside)
    (root / "var/log/link").symlink_to(outside)
    (root / "root/.ansible").symlink_to(outside.parent)
    Identity(str(root), NoEffects()).scrub(REQUEST)
    assert outside.read_text() == "kept"
    assert not (root / "home/debian/.zsh_history").is_symlink()
    assert not (root / "root/.ansible").is_symlink()
