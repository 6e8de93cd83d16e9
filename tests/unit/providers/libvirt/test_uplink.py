# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The uplink of a host: attacks as raw frames at its device, its traffic, its processes, and the
refusal of a machine that cannot provide it.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockyard import HostSpec
from stockyard.clock import Deadline
from stockyard.errors import HypervisorError, MissingDependency, StockyardError, Unsupported
from stockyard.providers.libvirt import (
    processes,
    uplink,
    uplink_guard,
    uplink_rules,
    uplink_tools,
)
from tests.helpers import uplink_attacks, uplink_lab
from tests.helpers.samples import host_record

UUID = "11111111-2222-4333-8444-555555555555"
RECORD = host_record(uuid=UUID, spec=HostSpec(egress="open"))
Facts = dict[str, Any]
TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 203.0.113.0/24 2 0 2
        |-- 203.0.113.0
           /24 link UNICAST
        |-- 203.0.113.1
           /32 host LOCAL
        |-- 203.0.113.255
           /32 link BROADCAST
Local:
  +-- 127.0.0.0/8 2 0 2
     |-- 127.0.0.0
        /8 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
"""


def provided() -> bool:
    """Return whether this machine provides uplinks to this user."""
    try:
        uplink_tools.check(HostSpec(egress="open"))
    except StockyardError:
        return False
    return os.geteuid() != 0


needs_uplinks = pytest.mark.skipif(
    not provided(),
    reason="slirp4netns, nftables, /dev/net/tun or user namespaces are missing: run `make setup`",
)


@pytest.fixture(scope="module")
def escaped(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """The attacks that got out of the uplink, and out of each of the controls."""
    facts: Facts = uplink_lab.run(tmp_path_factory.mktemp("attacks"))
    return facts


@needs_uplinks
@pytest.mark.parametrize("attack", [attack.name for attack in uplink_attacks.ATTACKS])
def test_attack_stays_in_the_uplink_and_succeeds_without_its_rules(
    escaped: Facts, attack: str
) -> None:
    assert attack not in escaped["uplink"]
    assert attack in escaped["careless"] + escaped["plain"], "the attack proves nothing"


@needs_uplinks
def test_private_destination_is_reached_only_if_it_is_allowed(escaped: Facts) -> None:
    assert escaped["widened"] == [
        "TCP to 10.9.8.7",
        "UDP to 10.9.8.7",
        "UDP in fragments to 10.9.8.7",
        "TCP with options of IP to 192.168.7.7",
        "TCP in a frame with a priority tag to 10.9.8.7",
        *(attack.name for attack in uplink_attacks.PERMITTED),
    ], "the hypervisor's address 10.200.0.1 and other ports of 192.168.7.7 are denied"


@needs_uplinks
def test_other_machines_are_reached(escaped: Facts) -> None:
    assert escaped["uplink"] == [attack.name for attack in uplink_attacks.PERMITTED]


@needs_uplinks
def test_names_are_resolved_and_large_files_arrive(tmp_path: Path) -> None:
    facts = uplink_lab.run(tmp_path, "traffic")
    assert (facts["name"], facts["transfer"]) == (uplink_attacks.OTHER, str(16 << 20)), facts
    for target in ("own", "private"):
        assert "No route to host" in facts[target], "refused at once, not dropped"


@needs_uplinks
@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed")
def test_card_that_sent_frames_without_an_uplink_works_with_each_later_one(tmp_path: Path) -> None:
    gateway = (
        uplink_rules.GATEWAY_MAC.replace(":", "") + socket.inet_aton(uplink_rules.GATEWAY).hex()
    )
    assert uplink_lab.run(tmp_path, "hub") == [gateway, gateway], "the guest remembers the first"


@needs_uplinks
@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed")
def test_saved_state_does_not_depend_on_the_uplink(tmp_path: Path) -> None:
    assert uplink_lab.run(tmp_path, "state") == ["completed", "completed", True]


@needs_uplinks
def test_processes_of_an_uplink_end_together_and_with_the_machine(tmp_path: Path) -> None:
    facts = uplink_lab.run(tmp_path, "life")
    assert facts["before"] == 0
    for victim in ("machine", "guard", "slirp4netns", "namespace"):
        assert facts[f"{victim} runs"] == [3, True]
        assert facts[f"{victim} killed"], f"processes continue without {victim}"
        assert facts[f"{victim} device"], "QEMU would get errors"
    assert facts["hangup"], "the end of a login ended the uplink"
    assert "unavailable" in facts["second"], "a host got two guards"


def test_own_networks_are_read_from_the_table_of_routes() -> None:
    assert uplink_guard.own_networks(TRIE) == ["127.0.0.0/8", "203.0.113.1/32", "203.0.113.255/32"]
    assert uplink_guard.own_rules("inet t", ["127.0.0.0/8", "192.0.2.1/32"]) == (
        "flush set inet t own\nadd element inet t own { 127.0.0.0/8, 192.0.2.1/32 }\n"
    )
    assert uplink_guard.own_rules("inet t", []) == "flush set inet t own\n"


class Qemu:
    """A monitor of QEMU that records commands."""

    name = "host web-1"

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.devices = {"uplink", "uplink-port"}

    def command(self, execute: str, **arguments: Any) -> None:
        name = arguments["id"]
        self.commands.append(f"{execute} {name}")
        if execute == "netdev_del" and name not in self.devices:
            raise HypervisorError("no such device")
        self.devices ^= {name}

    def pass_file(self, descriptor: int, label: str) -> None:
        assert os.fstat(descriptor)
        self.commands.append(f"getfd {label}")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for QEMU."""
    with subprocess.Popen(["sleep", "60"]) as process:
        monkeypatch.setattr(processes, "running", lambda: {UUID: process.pid})
        yield process
        process.kill()


@pytest.fixture
def qemu() -> Any:
    """The monitor of the machine."""
    return Qemu()


def wait_until_unguarded(folder: Path) -> None:
    """Wait for the end of a guard."""
    deadline = Deadline(30)
    while uplink.is_guarded(folder):
        deadline.check("the end of the guard")
        deadline.pause(0.05)


@needs_uplinks
def test_uplink_replaces_the_device_of_an_earlier_one(
    tmp_path: Path, machine: subprocess.Popen[bytes], qemu: Any
) -> None:
    with uplink.opening(qemu, RECORD, tmp_path, Deadline(60)) as connect:
        assert qemu.commands == [], "the machine gets the device when its caller says so"
        assert connect()
    assert qemu.commands == [
        *("netdev_del uplink-port", "netdev_del uplink", "getfd uplink"),
        *("netdev_add uplink", "netdev_add uplink-port"),
    ]
    with uplink.opening(qemu, RECORD, tmp_path, Deadline(60)) as connect:
        assert not connect(), "a guard is alive"
    machine.kill()
    wait_until_unguarded(tmp_path)


@needs_uplinks
@pytest.mark.usefixtures("machine")
def test_guard_ends_if_qemu_refuses_the_device(
    tmp_path: Path, qemu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _label: str) -> None:
        raise HypervisorError("QEMU refused getfd.")

    monkeypatch.setattr(qemu, "pass_file", refuse)
    with (
        pytest.raises(HypervisorError, match="refused getfd"),
        uplink.opening(qemu, RECORD, tmp_path, Deadline(60)) as connect,
    ):
        connect()
    wait_until_unguarded(tmp_path)


@needs_uplinks
@pytest.mark.usefixtures("machine")
def test_guard_ends_if_the_start_of_the_host_fails(tmp_path: Path, qemu: Any) -> None:
    with uplink.opening(qemu, RECORD, tmp_path, Deadline(60)):
        deadline = Deadline(30)
        while not uplink.is_guarded(tmp_path):
            deadline.check("the guard")
            deadline.pause(0.05)
    wait_until_unguarded(tmp_path)
    assert qemu.commands == []


@needs_uplinks
@pytest.mark.usefixtures("machine")
def test_error_of_the_guard_is_the_cause(
    tmp_path: Path, qemu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink_rules, "rules", lambda _allowed: "no rules")
    with (
        pytest.raises(HypervisorError, match="cannot be opened") as caught,
        uplink.opening(qemu, RECORD, tmp_path, Deadline(60)) as connect,
    ):
        connect()
    assert "syntax error" in caught.value.cause
    assert qemu.commands == []


def test_machine_that_is_off_has_no_uplink(
    tmp_path: Path, qemu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "running", dict)
    with (
        pytest.raises(HypervisorError, match="no QEMU process"),
        uplink.opening(qemu, RECORD, tmp_path, Deadline(5)),
    ):
        raise AssertionError("it is open")


PACKAGES = {
    "slirp4netns": "slirp4netns",
    "nft": "nftables",
    "unshare": "util-linux",
    "haproxy": "haproxy",
    "setpriv": "util-linux",
}
BY_NAME = HostSpec(egress="allow", egress_allow=("a.example.org",))


class Programs:
    """Programs of a machine, whose answers the test chooses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.missing = ""
        self.version = "slirp4netns version 1.2.0\nlibseccomp: 2.5.4\n"
        self.haproxy = "HAProxy version 2.6.12-1 2026/10/17 - https://haproxy.org/"
        self.refusal = ""
        monkeypatch.setattr(shutil, "which", self._which)
        monkeypatch.setattr(uplink_tools, "_run", self._run)
        monkeypatch.setattr(os, "access", lambda _path, _mode: self.missing != "tun")

    def _which(self, name: str, **_options: Any) -> str | None:
        return None if name == self.missing else f"/usr/bin/{name}"

    def _run(self, arguments: list[str], _text: str = "") -> subprocess.CompletedProcess[str]:
        if arguments[-1] == "-v":
            return subprocess.CompletedProcess(arguments, 0, self.haproxy, "")
        if "--version" in arguments:
            return subprocess.CompletedProcess(arguments, 0, self.version, "")
        return subprocess.CompletedProcess(arguments, bool(self.refusal), "", self.refusal)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    return Programs(monkeypatch)


@pytest.mark.parametrize("name", PACKAGES)
def test_missing_program_is_refused_with_its_package(programs: Programs, name: str) -> None:
    programs.missing = name
    with pytest.raises(MissingDependency, match=f"{name} is not installed") as caught:
        uplink_tools.check(BY_NAME)
    assert caught.value.remedy == f"install the package {PACKAGES[name]}"


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("version", "slirp4netns version 0.4.3\n", "a newer slirp4netns"),
        ("version", "unknown\n", "a newer slirp4netns"),
        ("haproxy", "HA-Proxy version 2.2.9-2", "a newer HAProxy"),
        ("missing", "tun", "/dev/net/tun cannot be opened"),
        ("refusal", "Operation not permitted", "cannot be loaded in a namespace"),
    ],
)
def test_unsuitable_machine_is_refused_with_a_remedy(
    programs: Programs, attribute: str, value: str, message: str
) -> None:
    setattr(programs, attribute, value)
    with pytest.raises(Unsupported, match=message) as caught:
        uplink_tools.check(BY_NAME)
    assert caught.value.remedy


def test_address_of_the_hypervisor_cannot_be_allowed(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert programs.version
    monkeypatch.setattr(uplink_guard, "read_own_networks", lambda: ["10.200.0.1/32"])
    uplink_tools.check(HostSpec(egress="open", egress_allow=("10.200.0.0/24", "10.200.0.2")))
    denied = HostSpec(egress="open", egress_allow=("10.9.8.7", "10.200.0.1:443"))
    with pytest.raises(Unsupported, match="address of the hypervisor") as caught:
        uplink_tools.check(denied)
    assert caught.value.remedy


def test_program_of_allow_is_not_needed_otherwise(programs: Programs) -> None:
    programs.missing = "haproxy"
    uplink_tools.check(HostSpec(egress="open"))


def test_haproxy_has_no_capabilities(programs: Programs) -> None:
    assert programs.haproxy
    arguments = uplink_tools.haproxy()
    assert {"--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"} <= set(arguments)


def test_slirp_is_confined_as_far_as_it_can_be(programs: Programs) -> None:
    uplink_tools.check(BY_NAME)
    arguments = uplink_tools.slirp()
    for option in ("--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"):
        assert option in arguments
    programs.version = "slirp4netns version 1.0.1\n"
    assert "--enable-seccomp" not in uplink_tools.slirp(), "it was built without libseccomp"


@pytest.mark.parametrize(
    ("hard_limit", "limit"),
    [(1 << 20, 16384), (4096, 4096), (resource.RLIM_INFINITY, 16384)],
)
def test_guest_cannot_hold_connections_without_a_limit(
    monkeypatch: pytest.MonkeyPatch, hard_limit: int, limit: int
) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (1024, hard_limit))
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, value: limits.append(value))
    uplink_guard.limit_descriptors()
    assert limits == [(limit, limit)]
