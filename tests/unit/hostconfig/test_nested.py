# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A nested Docker: what is refused, what is made, and that it is gone afterwards."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from stockyard import InvalidInput, MissingDependency, OperationRefused, SecuritySpec
from stockyard.clock import Deadline
from stockyard.guest.security import MARKER, marker
from stockyard.hostconfig.machine import Machine, Ran
from stockyard.hostconfig.nested import container, image, outer_host
from stockyard.hostconfig.nested.converge import Outcome, converge
from stockyard.hostconfig.nested.spec import NestedSpec
from tests.helpers.clocks import FakeClock

from .conftest import Programs

Put = Callable[[str, str], None]
INFO: dict[str, Any] = {
    "ID": "a",
    "SecurityOptions": ["name=seccomp,profile=default"],
    "Plugins": {},
    "NCPU": 2,
    "MemTotal": 2 << 30,
}
REMAP = {
    **INFO,
    "SecurityOptions": ["name=userns"],
    "DockerRootDir": "/var/lib/docker/100000.100000",
}
PID, GROUP = "77", "/system.slice/docker-a.scope"
ROOTLESS, PRIVILEGED = NestedSpec(), NestedSpec(mode="privileged")


class Docker(Programs):
    """A host's programs: they remember what is mounted, imported and run."""

    def __init__(self, **answers: str) -> None:
        super().__init__(**answers)
        self.machine: Machine
        self.container = ""
        self.label = ""
        self.state = "running"
        self.image = ""
        self.mounted: list[str] = []
        self.say("docker info", json.dumps(INFO))
        self.say("docker inspect", f"{PID}\n")
        quiet = (
            "modprobe",
            "truncate",
            "mkfs.ext4",
            "install",
            "chown",
            "docker exec",
            "docker logs",
        )
        for line in quiet:
            self.say(line)

    def __call__(self, line: list[str], timeout: float) -> Ran:
        known = super().__call__(line, timeout)
        if known.code not in (0, 127):
            return known
        result = self._act(line)
        return known if result is None else Ran(0, result, "")

    def _act(self, line: list[str]) -> str | None:
        """Return the output of a command; nothing for other commands."""
        acts = {
            "docker ps": self._ps,
            "docker run": self._run,
            "docker rm": self._rm,
            "docker import": self._import,
            "docker images": lambda _line: self.image,
            "docker rmi": self._rmi,
            "mount": self._mount,
            "umount": self._mount,
        }
        act = acts.get(" ".join(line[:2])) or acts.get(line[0])
        return act(line) if act else None

    def _ps(self, _line: list[str]) -> str:
        return f"{self.container}\t{self.state}\t{self.label}\n" if self.container else ""

    def _run(self, line: list[str]) -> str:
        options = dict(
            word[2:].split("=", 1) for word in line if word.startswith("--") and "=" in word
        )
        self.container, self.label, self.state = (
            options["name"],
            options["label"].split("=")[1],
            "running",
        )
        self._write(f"{container.STORAGE}/run/docker.sock")
        return "id\n"

    def _rm(self, _line: list[str]) -> str:
        self.container = ""
        return ""

    def _import(self, _line: list[str]) -> str:
        self.image = "sha"
        return ""

    def _rmi(self, _line: list[str]) -> str:
        self.image = ""
        return ""

    def _mount(self, line: list[str]) -> str:
        path = line[-1].removeprefix(str(self.machine.root))
        if line[0] == "umount":
            # The former content is not that of the directory under it.
            shutil.rmtree(self.machine.path(path))
            self.machine.path(path).mkdir()
        self.mounted = [m for m in self.mounted if m != path] + (
            [path] if line[0] == "mount" else []
        )
        self._write("/proc/mounts", "".join(f"x {path} ext4 rw 0 0\n" for path in self.mounted))
        return ""

    def _write(self, name: str, text: str = "") -> None:
        self.machine.write(name, text)


@pytest.fixture
def programs() -> Docker:
    return Docker()


@pytest.fixture
def host(machine: Machine, programs: Docker) -> Machine:
    """One that can have either."""
    equip(machine, programs)
    return machine


def equip(machine: Machine, programs: Docker) -> None:
    """Give a machine all that a nested Docker needs."""
    programs.machine = machine
    for name in (*outer_host.PROGRAMS, *outer_host.ROOTLESS):
        machine.write(f"/usr/bin/{name}", "x")
    machine.write(outer_host.CONTROLLERS, "cpu io memory pids\n")
    machine.write("/proc/sys/kernel/unprivileged_userns_clone", "1\n")
    machine.write(f"/proc/{PID}/cgroup", f"0::{GROUP}\n")


def have(
    machine: Machine, spec: NestedSpec, *, present: bool = True, check: bool = False
) -> Outcome:
    return converge(machine, spec, present=present, check=check, deadline=Deadline(30, FakeClock()))


def shut(machine: Machine, profile: str, **more: Any) -> None:
    machine.write(MARKER, marker(SecuritySpec(profile, **more).settings()))


def ran(programs: Programs) -> str:
    return next(line for line in programs.lines if line.startswith("docker run"))


@pytest.mark.parametrize("spec", [ROOTLESS, PRIVILEGED])
def test_nested_daemon_is_created_once_and_deleted_completely(
    host: Machine, programs: Docker, spec: NestedSpec
) -> None:
    assert have(host, spec).changed
    assert not have(host, spec).changed
    assert have(host, spec, present=False).changed
    assert not have(host, spec, present=False).changed
    assert (programs.container, programs.image, programs.mounted) == ("", "", [])
    assert host.stat(container.FOLDER) is None
    assert not host.read("/etc/subuid")


@pytest.mark.parametrize("present", [True, False])
def test_check_mode_changes_nothing(host: Machine, programs: Docker, present: bool) -> None:
    if not present:
        have(host, ROOTLESS)
    count = len(programs.lines)
    assert have(host, ROOTLESS, present=present, check=True).changed
    assert {line.split(" -")[0] for line in programs.lines[count:]} == {
        "docker info",
        "docker ps",
        "docker images",
    }
    assert bool(programs.container) is not present


@pytest.mark.parametrize("profile", ["shared", "hostile"])
def test_a_privileged_one_is_refused_on_a_host_that_is_shared(
    host: Machine, programs: Docker, profile: str
) -> None:
    shut(host, profile)
    with pytest.raises(
        OperationRefused,
        match=f"profile is {profile}, and root of a privileged container is root of the host",
    ):
        have(host, PRIVILEGED)
    assert not any(line.startswith(("docker run", "mount", "modprobe")) for line in programs.lines)


def test_rootless_daemon_without_user_namespaces_is_refused(host: Machine) -> None:
    host.write("/proc/sys/kernel/unprivileged_userns_clone", "0\n")
    with pytest.raises(OperationRefused, match=r"unprivileged_userns_clone is 0.*sysctls"):
        have(host, ROOTLESS)
    assert have(host, PRIVILEGED).changed


@pytest.mark.parametrize(
    ("info", "spec", "why"),
    [
        (
            {**INFO, "SecurityOptions": ["name=rootless"]},
            ROOTLESS,
            "the host's dockerd is rootless, and cannot delegate its cgroups to a",
        ),
        (
            {**INFO, "Plugins": {"Authorization": ["stockyard-authz"]}},
            ROOTLESS,
            "plugin stockyard-authz refuses",
        ),
        (REMAP, PRIVILEGED, "remaps users"),
        ({}, ROOTLESS, "does not answer"),
    ],
)
def test_state_reported_by_dockerd_decides(
    host: Machine, programs: Docker, info: dict[str, Any], spec: NestedSpec, why: str
) -> None:
    programs.say("docker info", json.dumps(info))
    with pytest.raises(OperationRefused, match=why):
        have(host, spec)


def test_missing_program_is_named_with_its_package(host: Machine) -> None:
    host.path("/usr/bin/newuidmap").unlink()
    with pytest.raises(MissingDependency, match="install uidmap"):
        have(host, ROOTLESS)
    assert have(host, PRIVILEGED).changed


def test_old_cgroups_are_refused(host: Machine) -> None:
    host.path(outer_host.CONTROLLERS).unlink()
    with pytest.raises(OperationRefused, match="version 1"):
        have(host, ROOTLESS)


@pytest.mark.parametrize("size", [{"cpus": 2.5}, {"memory_mib": 2049}, {"disk_mib": 1 << 24}])
def test_limits_above_the_hardware_are_refused(
    host: Machine, programs: Docker, size: dict[str, Any]
) -> None:
    with pytest.raises(OperationRefused, match=next(iter(size))):
        have(host, NestedSpec(**size))
    assert not programs.image


def test_a_mount_that_is_not_seen_is_not_emptied(host: Machine) -> None:
    """The host's own programs are in there."""
    have(host, ROOTLESS)
    host.write(f"{container.PROGRAMS}/bin/sh", "x")
    host.write("/proc/mounts", "")
    with pytest.raises(container.NestedFailed, match="cannot be deleted"):
        have(host, ROOTLESS, present=False)
    assert host.read(f"{container.PROGRAMS}/bin/sh") == "x"


def test_a_host_has_one(host: Machine) -> None:
    have(host, ROOTLESS)
    with pytest.raises(OperationRefused, match="already has the nested Docker nested"):
        have(host, NestedSpec("second"))
    assert not have(host, NestedSpec("second"), present=False).changed
    with pytest.raises(OperationRefused, match="other options"):
        have(host, NestedSpec(pids=500))


def test_foreign_container_is_unchanged(host: Machine, programs: Docker) -> None:
    programs.container = "nested"
    with pytest.raises(OperationRefused, match="a container outside stockyard has this name"):
        have(host, ROOTLESS)
    assert not have(host, ROOTLESS, present=False).changed
    assert programs.container == "nested"


def test_ended_daemon_is_created_again(host: Machine, programs: Docker) -> None:
    have(host, ROOTLESS)
    programs.state = "exited"
    assert have(host, ROOTLESS, check=True).changed
    assert have(host, ROOTLESS).changed
    assert "docker rm --force --volumes nested" in programs.lines
    assert not have(host, ROOTLESS).changed


def test_of_one_that_does_not_come_up_nothing_is_left(host: Machine, programs: Docker) -> None:
    programs.say("docker exec", code=1)
    programs.say("docker logs", err="newuidmap: Permission denied")
    with pytest.raises(container.NestedFailed, match="newuidmap: Permission denied"):
        have(host, ROOTLESS)
    assert (programs.container, programs.image, programs.mounted) == ("", "", [])


def test_failed_deletion_is_reported(host: Machine, programs: Docker) -> None:
    have(host, ROOTLESS)
    programs.say("umount", code=32, err="target is busy")
    with pytest.raises(container.NestedFailed, match="busy"):
        have(host, ROOTLESS, present=False)


def test_limits_are_passed_to_docker(host: Machine, programs: Docker) -> None:
    have(host, NestedSpec(memory_mib=300, cpus=1.5, pids=200, disk_mib=512))
    words = ran(programs).split()
    assert {
        "--memory=300m",
        "--memory-swap=300m",
        "--cpus=1.5",
        "--pids-limit=200",
        "--read-only",
    } <= set(words)
    assert any(line.startswith("truncate --size=512M") for line in programs.lines)


def test_a_rootless_one_has_no_rights_and_its_cgroup(host: Machine, programs: Docker) -> None:
    have(host, ROOTLESS)
    words = ran(programs).split()
    assert "--privileged" not in words
    assert [w for w in words if w.startswith("--cap")] == [
        "--cap-drop=ALL",
        "--cap-add=SETUID",
        "--cap-add=SETGID",
    ]
    assert "--user=100000:100000" in words
    assert not any("docker.sock:" in w for w in words)
    limits = f"/sys/fs/cgroup{GROUP}"
    parts = [
        f"{limits}{name}"
        for name in ("", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads")
    ]
    assert " ".join(["chown 100000:100000", *parts]) in programs.lines
    assert host.read("/etc/subuid") == "stockyard-nested:100000:65536\n"


def test_with_remap_its_ids_are_in_the_range_of_containers(host: Machine, programs: Docker) -> None:
    shut(host, "shared", sysctls={"kernel.unprivileged_userns_clone": "1"})
    programs.say("docker info", json.dumps(REMAP))
    have(host, ROOTLESS)
    assert "--user=1000:1000" in ran(programs).split()
    assert any(line.startswith("chown 101000:101000 /sys/fs/cgroup") for line in programs.lines)
    assert not host.read("/etc/subuid")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a b"},
        {"mode": "dind"},
        {"memory_mib": 10},
        {"cpus": 0.0},
        {"cpus": float("nan")},
        {"pids": 1},
        {"disk_mib": 1},
        {"config": {"hosts": ["tcp://0.0.0.0"]}},
    ],
)
def test_bad_declarations_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        NestedSpec(**wrong)


def members(users: image.Users) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    rootless_image = image.image(
        users, {"registry-mirrors": ["https://m"]}, {"newuidmap": b"u", "newgidmap": b"g"}
    )
    assert rootless_image == image.image(
        users, {"registry-mirrors": ["https://m"]}, {"newgidmap": b"g", "newuidmap": b"u"}
    )
    with tarfile.open(fileobj=io.BytesIO(rootless_image), encoding="utf-8") as archive:
        return {m.name: (m, archive.extractfile(m).read() if m.isreg() else b"") for m in archive}  # type: ignore[union-attr]


@pytest.mark.parametrize(("root", "size", "version"), [(0, 20, 2), (100000, 24, 3)])
def test_mappers_have_one_capability_and_are_not_set_uid(
    root: int, size: int, version: int
) -> None:
    names = members(image.Users(1000, ((1, 999), (1001, 64535)), root))
    for name, bit in (("newuidmap", 7), ("newgidmap", 6)):
        entry, _content = names[f"opt/stockyard/{name}"]
        capability = entry.pax_headers["SCHILY.xattr.security.capability"].encode(
            "utf-8", "surrogateescape"
        )
        assert len(capability) == size
        assert capability[3] == version
        assert capability[0] == 1
        assert int.from_bytes(capability[4:8], "little") == 1 << bit
        assert int.from_bytes(capability[20:], "little") == root
        assert entry.mode == 0o755


def test_image_contains_the_subordinate_ids() -> None:
    names = members(image.Users(1000, ((1, 999), (1001, 64535)), 100000))
    assert names["etc/subuid"][1] == names["etc/subgid"][1] == b"job:1:999\njob:1001:64535\n"
    assert b"job:x:1000:1000:" in names["etc/passwd"][1]
    config = json.loads(names["opt/stockyard/daemon.json"][1])
    assert config["registry-mirrors"] == ["https://m"]
    assert config["hosts"] == [f"unix://{image.SOCKET}"]
    assert not any(entry.mode & 0o6000 for entry, _content in names.values())
