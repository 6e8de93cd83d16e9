# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running host is branched while a container runs in it: the host continues, and its children
have the container and an identity of their own.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise, permutations
from pathlib import Path

import pytest

from stockyard import (
    BranchSpec,
    FleetSpec,
    HostInfo,
    HostSpec,
    OperationRefused,
    SingleSpec,
    TemplateInfo,
    Yard,
)
from stockyard.providers.libvirt import disk_layers
from stockyard.providers.libvirt.provider import LibvirtProvider
from stockyard.providers.libvirt.xml.element import parse
from tests.helpers.machine_pauses import Pauses, session_uri

from .conftest import OWNER, WORK, Docker, ssh

pytestmark = [pytest.mark.real, pytest.mark.full]
PARENT, CHILDREN = "trunk", ("twig-1", "twig-2")
# A container that writes a number into a file and prints it, many times a second.
COUNT = "n=0; while true; do n=$((n+1)); echo $n >>/numbers; echo $n; sleep 0.02; done"
# Milliseconds for which a container's output may be silent because of the branch.
GAP = 300.0
# An emulated host of QEMU before 9.0 is stopped while its memory is copied, and a loaded machine
# delays everything.
LONGEST_PAUSE = 20_000.0


@dataclass
class Follower:
    """The output of the counter in a host, with the times of its lines."""

    lines: list[tuple[float, int]] = field(default_factory=list)

    def gap(self, begin: float, end: float) -> float:
        """The longest silence in a span of time, in milliseconds."""
        times = [moment for moment, _number in self.lines if begin <= moment <= end]
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0) * 1000


class Follow:
    """Follow the counter in a host, in a thread, as `docker logs` shows it."""

    def __init__(self, docker: Docker, host: HostInfo) -> None:
        environment = {"PATH": os.environ["PATH"], "HOME": str(WORK / "docker-home")}
        environment |= host.docker.environment
        self.process = subprocess.Popen(
            [docker.client, "logs", "--follow", "--tail", "1", "counter"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.follower = Follower()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            # The last line can be cut when the client is killed.
            if line.endswith(b"\n"):
                self.follower.lines.append((time.monotonic(), int(line)))

    def stop(self) -> Follower:
        self.process.kill()
        self.process.wait()
        self.thread.join(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.follower


def libvirt_of(yard: Yard) -> LibvirtProvider:
    provider = yard.context.provider
    assert isinstance(provider, LibvirtProvider)
    return provider


@dataclass(frozen=True)
class Branched:
    """A parent and its children, and the figures of the branch."""

    parent: HostInfo
    children: tuple[HostInfo, ...]
    pause_ms: float
    gap_ms: float
    usual_gap_ms: float
    seconds: float


@pytest.fixture(scope="module")
def parent(
    yard: Yard, template: TemplateInfo, docker: Docker, busybox: bytes
) -> Iterator[HostInfo]:
    """A host in which a container counts."""
    host = yard.hosts.apply(SingleSpec(PARENT, "docker")).object
    docker(host, "import", "-", "busybox:latest", stdin=busybox)
    docker(host, "run", "-d", "--name", "counter", "busybox", "/bin/sh", "-c", COUNT)
    yield host
    for name in (PARENT, *CHILDREN):
        yard.hosts.delete(name)
    assert leftovers(yard) == set()


def leftovers(yard: Yard) -> set[str]:
    """Everything that is left of branches."""
    store = libvirt_of(yard).store
    folders = (store.branches, store.disk_layers)
    return {path.name for folder in folders if folder.is_dir() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def branched(yard: Yard, parent: HostInfo, docker: Docker) -> Branched:
    pauses, follow = Pauses(session_uri(yard), parent.uuid), Follow(docker, parent)
    time.sleep(5)
    begin = time.monotonic()
    result = yard.hosts.branch(BranchSpec(PARENT, CHILDREN))
    end = time.monotonic()
    assert [str(action) for action in result.plan.actions] == [
        f"create host {name}: branched from host {PARENT}" for name in CHILDREN
    ]
    pause = pauses.milliseconds()
    stop = next(moment for name, moment in pauses.events if name == "STOP")
    stopped = time.monotonic() - (time.time() - stop)
    follower = follow.stop()
    figures = Branched(
        parent,
        result.objects,
        pause,
        follower.gap(stopped - 1, stopped + pause / 1000 + 1),
        follower.gap(begin - 5, begin),
        end - begin,
    )
    print(
        f"\nSTOP to RESUME {pause:.0f} ms; silence {figures.gap_ms:.0f} ms, without a branch "
        f"{figures.usual_gap_ms:.0f} ms; branch and two children {figures.seconds:.1f} s"
    )
    for host in (yard.hosts.get(PARENT), *result.objects):
        print(host.name, host.memory)
    return figures


def numbers(docker: Docker, host: HostInfo) -> list[int]:
    """The numbers in the file of the counter."""
    return [int(line) for line in docker(host, "exec", "counter", "cat", "/numbers").stdout.split()]


def test_the_parent_continues_after_a_stop(docker: Docker, branched: Branched) -> None:
    assert branched.pause_ms < LONGEST_PAUSE
    assert branched.gap_ms < branched.usual_gap_ms + max(GAP, branched.pause_ms + 200)
    before = numbers(docker, branched.parent)
    time.sleep(1)
    after = numbers(docker, branched.parent)
    assert len(after) > len(before)
    assert after == list(range(1, len(after) + 1))


def test_each_child_has_the_running_container(docker: Docker, branched: Branched) -> None:
    started = "{{.Id}} {{.State.StartedAt}} {{.State.Pid}} {{.State.Running}}"
    of_parent = docker(branched.parent, "inspect", "counter", "--format", started).stdout
    assert of_parent.endswith(b"true\n")
    for child in branched.children:
        assert docker(child, "inspect", "counter", "--format", started).stdout == of_parent
        first = numbers(docker, child)
        time.sleep(1)
        second = numbers(docker, child)
        assert second == list(range(1, len(second) + 1))
        assert len(second) > len(first)


def test_no_file_system_is_damaged(branched: Branched) -> None:
    for host in (branched.parent, *branched.children):
        log = ssh(host, "sudo dmesg | grep -Ei 'ext4-fs (error|warning)|I/O error|aborted'").stdout
        assert log == "", host.name
        assert (
            ssh(host, "sudo touch /root/written && sudo sync && sudo cat /root/written").returncode
            == 0
        )


def test_everybody_has_an_identity(branched: Branched) -> None:
    hosts = (branched.parent, *branched.children)
    for key in ("uuid", "address", "mac"):
        assert len({getattr(host, key) for host in hosts}) == len(hosts), key
    for key in ("machine_id", "ssh_host_key", "certificate"):
        assert len({getattr(host.identity, key) for host in hosts}) == len(hosts), key
    inside = [
        ssh(host, "hostname; cat /etc/machine-id /sys/class/net/eth0/address").stdout.split()
        for host in hosts
    ]
    assert inside == [
        [host.name, getattr(host.identity, "machine_id", ""), host.mac] for host in hosts
    ]


SEARCH = r"""
import os, sys
# They arrive backwards: processes that pass them on do not contain them then.
needles = [line[::-1].encode() for line in sys.stdin.read().split()]
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) in (os.getpid(), os.getppid()):
        continue
    try:
        maps = open(f"/proc/{pid}/maps").read().splitlines()
        memory = open(f"/proc/{pid}/mem", "rb", buffering=0)
    except OSError:
        continue
    name = open(f"/proc/{pid}/comm").read().strip()
    for area in maps:
        words = area.split()
        begin, end = (int(part, 16) for part in words[0].split("-"))
        if "w" not in words[1] or end - begin > 1 << 27:
            continue
        try:
            memory.seek(begin)
            data = memory.read(end - begin)
        except OSError:
            continue
        found += [name for needle in needles if needle in data]
for top in ("/etc", "/root", "/home", "/run", "/var/lib/stockyard"):
    for folder, _folders, files in os.walk(top):
        for file in files:
            path = os.path.join(folder, file)
            if os.path.isfile(path) and not os.path.islink(path):
                try:
                    data = open(path, "rb").read()
                except OSError:
                    continue
                found += [path for needle in needles if needle in data]
print(*found)
"""


def test_no_key_of_the_parent_is_in_a_process_or_a_file_of_a_child(branched: Branched) -> None:
    script = "cat /var/lib/stockyard/tls/key.pem /etc/ssh/ssh_host_ed25519_key"
    keys = ssh(branched.parent, f"sudo sh -c '{script}'").stdout.splitlines()
    # Lines of base64 that hold the secret itself; the first line of a key in OpenSSH's format is
    # the same for all keys.
    needles = [line for line in keys if len(line) > 40 and not line.startswith(("-", "b3BlbnNzaC"))]
    assert len(needles) >= 3
    search = f"sudo python3 -c '{SEARCH}'"
    for child in branched.children:
        done = ssh(child, search, stdin="\n".join(line[::-1] for line in needles), timeout=600)
        assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


def test_generators_differ(yard: Yard, branched: Branched) -> None:
    uuids = {host.uuid for host in (branched.parent, *branched.children)}
    draws: list[str] = []
    for host in yard.context.provider.observe(OWNER).hosts:
        if host.record.uuid in uuids:
            with yard.context.guest(host.record, yard.context.deadline(60)) as guest:
                for _draw in range(100):
                    draws += guest.draw().by_source.values()
    assert len(draws) == len(set(draws)) == 3 * 100 * 3


@pytest.mark.full
def test_a_second_run_changes_nothing(yard: Yard, branched: Branched) -> None:
    assert not yard.hosts.branch(BranchSpec(PARENT, CHILDREN)).changed
    assert not yard.hosts.branch(BranchSpec(PARENT, CHILDREN), check=True).changed


def private_mib(yard: Yard, name: str) -> float:
    memory = yard.hosts.get(name).memory
    assert memory is not None
    return memory.private_mib


@pytest.mark.full
def test_the_memory_of_a_branch_is_shared(yard: Yard, branched: Branched) -> None:
    """One file for all children; a child has few pages of its own."""
    yard.hosts.apply(SingleSpec("leaf", "docker"))
    try:
        time.sleep(5)
        of_fork = private_mib(yard, "leaf")
        of_children = [private_mib(yard, name) for name in CHILDREN]
        store = libvirt_of(yard).store
        (ram,) = store.branches.glob("*/ram")
        size_mib = ram.stat().st_blocks * 512 >> 20
        print(f"\nprivate MiB: fork {of_fork}, children {of_children}; RAM file {size_mib} MiB")
        assert max(of_children) < size_mib / 2
    finally:
        yard.hosts.delete("leaf")


@pytest.mark.full
def test_a_template_stays_as_long_as_a_branch_lies_on_it(yard: Yard, branched: Branched) -> None:
    record = yard.context.provider.observe(OWNER).templates[-1].record
    with pytest.raises(OperationRefused):
        yard.context.provider.destroy(record)


def restarts(yard: Yard, docker: Docker, name: str) -> None:
    host = yard.hosts.restart(name, timeout=900).object
    assert host.ready
    docker(host, "start", "counter")
    assert numbers(docker, host)


@pytest.mark.full
def test_a_child_restarts_after_parent_and_sibling_are_deleted(
    yard: Yard, docker: Docker, branched: Branched
) -> None:
    """No layer under its disk is lost."""
    yard.hosts.delete(CHILDREN[0])
    yard.hosts.delete(PARENT)
    restarts(yard, docker, CHILDREN[1])
    yard.hosts.delete(CHILDREN[1])
    assert leftovers(yard) == set()
    assert not yard.reap().changed


@pytest.mark.full
@pytest.mark.parametrize(
    "order", list(permutations(("trunk-2", "shoot-1", "shoot-2"))), ids="-".join
)
def test_hosts_are_deleted_in_every_order(
    yard: Yard, docker: Docker, trunk: HostInfo, order: tuple[str, ...]
) -> None:
    """Those that stay serve, and nothing is left at the end."""
    yard.hosts.branch(BranchSpec(trunk.name, ("shoot-1", "shoot-2")))
    for number, name in enumerate(order, 1):
        yard.hosts.delete(name)
        for other in order[number:]:
            docker(yard.hosts.get(other), "info")
    assert leftovers(yard) == set()


@pytest.fixture
def trunk(yard: Yard, template: TemplateInfo) -> Iterator[HostInfo]:
    """A host to branch many times."""
    yield yard.hosts.apply(SingleSpec("trunk-2", "docker")).object
    for host in yard.hosts.list():
        if host.name.startswith(("trunk-2", "shoot")):
            yard.hosts.delete(host.name)
    assert leftovers(yard) == set()


@pytest.mark.full
def test_the_certificate_of_a_lease_opens_no_child(yard: Yard, docker: Docker) -> None:
    """Children of a leased host are leased to the same holder, each with its own certificate."""
    yard.fleets.apply(FleetSpec("lent", "docker", count=1))
    try:
        parent = yard.leases.acquire("lent", holder="job", duration="30m").info
        yard.hosts.branch(BranchSpec(parent.host, ("shoot",), lease=parent.id))
        (child,) = (info for info in yard.leases.list(holder="job") if info.host == "shoot")
        for lease, other in ((parent, child), (child, parent)):
            docker(lease, "info")
            environment = {
                **lease.docker.environment,
                "DOCKER_HOST": other.docker.environment["DOCKER_HOST"],
            }
            wrong = replace(lease, docker=replace(lease.docker, environment=environment))
            assert docker(wrong, "info", check=False).returncode
    finally:
        yard.hosts.delete("shoot")
        yard.fleets.delete("lent")


@pytest.mark.full
@pytest.mark.parametrize(("action", "state"), [("pause", "paused"), ("stop", "exited")])
def test_containers_are_changed_in_children_only(
    yard: Yard, docker: Docker, busybox: bytes, trunk: HostInfo, action: str, state: str
) -> None:
    docker(trunk, "import", "-", "busybox:latest", stdin=busybox)
    docker(trunk, "run", "-d", "--name", "counter", "busybox", "/bin/sh", "-c", COUNT)
    spec = BranchSpec(trunk.name, ("shoot",), containers=action)
    child = yard.hosts.branch(spec).object
    for host, expected in ((trunk, "running"), (child, state)):
        shown = docker(host, "inspect", "counter", "--format", "{{.State.Status}}").stdout
        assert shown.decode().strip() == expected


def chain_of(yard: Yard, host: HostInfo) -> list[Path]:
    provider = libvirt_of(yard)
    domain = provider.connection.lookupByUUIDString(host.uuid)
    return list(disk_layers.chain(disk_layers.top(parse(domain.XMLDesc(0)))))


@pytest.mark.full
def test_ten_branches_in_a_row_leave_a_short_chain(yard: Yard, trunk: HostInfo) -> None:
    store = libvirt_of(yard).store
    for number in range(10):
        begin = time.monotonic()
        assert yard.hosts.branch(BranchSpec(trunk.name, ("shoot",))).changed
        print(f"branch {number + 1}: {time.monotonic() - begin:.1f} s")
        yard.hosts.delete("shoot")
        layers = {path for path in chain_of(yard, trunk) if path.parent == store.disk_layers}
        assert len(layers) <= 8
        assert yard.hosts.get(trunk.name).disk_layers == len(layers)
        assert set(store.disk_layers.iterdir()) == layers
        assert list(store.branches.iterdir()) == []


@pytest.mark.full
def test_a_booted_host_and_a_restored_host_can_be_branched(
    yard: Yard, docker: Docker, template: TemplateInfo
) -> None:
    """A fork, a boot, a boot after a save and a grown host have RAM of one layout."""
    yard.hosts.apply(SingleSpec("stump", "docker", host=HostSpec(fork_mode="linked", vcpus=2)))
    try:
        domain = libvirt_of(yard).connection.lookupByUUIDString(yard.hosts.get("stump").uuid)
        for number in (1, 2):
            (child,) = yard.hosts.branch(BranchSpec("stump", (f"shoot-{number}",))).objects
            assert docker(child, "ps", "--quiet").stdout == b""
            yard.hosts.delete(child.name)
            domain.managedSave()
            yard.hosts.apply(SingleSpec("stump", "docker"))
    finally:
        for host in yard.hosts.list():
            if host.name.startswith(("stump", "shoot")):
                yard.hosts.delete(host.name)
