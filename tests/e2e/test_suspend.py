# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are suspended and resumed: the same containers and processes, the right time, and the
same identity.
"""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from stockyard import FleetSpec, HostInfo, HostSpec, SingleSpec, TemplateInfo, Yard
from stockyard.errors import OutOfSpace
from stockyard.providers.libvirt import processes, suspend
from stockyard.resources.guest_status import LIMIT

from .conftest import OWNER, Docker, ssh
from .test_faults import kill_daemons
from .test_lifecycle import virsh
from .test_whole_yard import DECLARATION, changes, play

pytestmark = pytest.mark.real
SPEC = SingleSpec("sleeper", "docker")
TEN = FleetSpec("sleepers", "docker", count=10)
DECLARED = (
    DECLARATION.partition("yard_fleets")[0]
    + f"""yard_prune: "no"
yard_fleets: [{{{{name: {TEN.name}, template: docker, count: {TEN.count}}}}}]
"""
)


@dataclass(frozen=True)
class Guest:
    """The properties of a guest that a suspension must not change."""

    boot: str
    pids: tuple[str, ...]
    containers: str
    certificate: str
    note: str


@pytest.fixture
def host(yard: Yard, template: TemplateInfo) -> Iterator[HostInfo]:
    """A host of its own."""
    yield yard.hosts.apply(SPEC).objects[0]
    yard.hosts.delete(SPEC.name)


def run_container(docker: Docker, host: HostInfo, busybox: bytes) -> None:
    """Run a container, and write a file that is in memory alone."""
    docker(host, "import", "-", "busybox", stdin=busybox)
    docker(host, "run", "-d", "--name", "worker", "busybox", "sleep", "86400")
    assert ssh(host, "echo kept | sudo tee /run/note").returncode == 0


def inspect(docker: Docker, host: HostInfo) -> Guest:
    """Return the properties of a guest. SSH checks its host key."""
    commands = (
        "cat /proc/sys/kernel/random/boot_id",
        "pidof dockerd containerd systemd-journald sleep stunnel4 stunnel | tr ' ' '\\n' | sort",
        "cat /run/note",
    )
    result = ssh(host, "; echo ==; ".join(commands))
    assert result.returncode == 0, result.stderr
    boot, pids, note = (part.strip() for part in result.stdout.split("==\n"))
    facts = "{{.Id}} {{.State.Pid}} {{.State.StartedAt}} {{.State.Running}}"
    containers = docker(host, "inspect", "-f", facts, "worker").stdout.decode()
    pem = ssl.get_server_certificate((host.address, 2376))
    certificate = hashlib.sha256(pem.encode()).hexdigest()
    return Guest(boot, tuple(pids.split()), containers, certificate, note)


def clock_error(host: HostInfo) -> float:
    """Return the seconds by which a guest's clock is wrong at least."""
    begin = time.time()
    result = ssh(host, "date +%s.%N")
    end = time.time()
    assert result.returncode == 0, result.stderr
    guest = float(result.stdout)
    return max(begin - guest, guest - end, 0.0)


def test_suspended_host_continues_with_its_containers(
    yard: Yard, host: HostInfo, docker: Docker, busybox: bytes
) -> None:
    run_container(docker, host, busybox)
    before = inspect(docker, host)
    assert before.containers.strip().endswith("true")
    suspended = yard.hosts.suspend(host.name).object
    assert (suspended.state, suspended.ready, suspended.memory) == ("suspended", False, None)
    assert host.uuid not in processes.running()
    assert not yard.hosts.suspend(host.name).changed
    time.sleep(3)
    resumed = yard.hosts.apply(SPEC)
    assert [str(a) for a in resumed.plan.actions] == ["resume host sleeper: it is suspended"]
    after = resumed.object
    assert (after.ready, after.drift, after.waits) == (True, (), "")
    assert (after.uuid, after.address, after.identity) == (host.uuid, host.address, host.identity)
    assert clock_error(after) < 1.0
    assert inspect(docker, after) == before
    assert not yard.hosts.apply(SPEC).changed
    assert host.uuid not in virsh(yard, "list", "--all", "--with-managed-save", "--uuid")


def test_hosts_without_space_for_their_memory_continue(
    yard: Yard, host: HostInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspend, "OVERHEAD", 1 << 40)
    for check in (True, False):
        with pytest.raises(OutOfSpace):
            yard.hosts.suspend(host.name, check=check)
    assert yard.hosts.get(host.name).ready


@pytest.mark.full
def test_host_whose_memory_was_enlarged_keeps_it(
    yard: Yard, growable: TemplateInfo, docker: Docker, busybox: bytes
) -> None:
    """libvirt does not know of memory that was plugged in."""
    spec = SingleSpec("grower", growable.name)
    host = yard.hosts.apply(spec).object
    try:
        grown = replace(spec, host=HostSpec(memory_mib=host.size.memory_mib + 256))
        (action,) = yard.hosts.apply(grown).plan.actions
        assert action.verb == "resize"
        run_container(docker, host, busybox)
        before, total = inspect(docker, host), ssh(host, "grep MemTotal /proc/meminfo").stdout
        for _cycle in range(2):
            yard.hosts.suspend(host.name)
            assert [a.verb for a in yard.hosts.apply(grown).plan.actions] == ["resume"]
            assert inspect(docker, host) == before
            assert ssh(host, "grep MemTotal /proc/meminfo").stdout == total
        assert not yard.hosts.apply(grown).changed
    finally:
        yard.hosts.delete(host.name)


@pytest.mark.full
def test_host_of_a_failed_job_is_kept_with_its_containers(
    yard: Yard, template: TemplateInfo, docker: Docker, busybox: bytes
) -> None:
    fleet = FleetSpec("jobs", "docker", count=1)
    (job,) = yard.fleets.apply(fleet).objects
    try:
        with yard.leases.acquire("jobs", holder="me") as held:
            run_container(docker, job, busybox)
            kept_host = held.keep("1h")
        assert (kept_host.state, kept_host.fleet) == ("suspended", "")
        assert kept_host.name.startswith("jobs-1-kept-")
        assert [host.name for host in yard.hosts.list(name=kept_host.name)] == [kept_host.name]
        assert not yard.hosts.list(fleet="jobs")
        resumed = yard.hosts.resume(kept_host.name).object
        facts = docker(resumed, "inspect", "-f", "{{.State.Running}}", "worker").stdout
        assert facts.decode().strip() == "true"
        assert ssh(resumed, "cat /run/note; hostname").stdout.split() == ["kept", kept_host.name]
    finally:
        yard.fleets.delete("jobs")
        for host in yard.hosts.list():
            if host.name.startswith("jobs-1-kept-"):
                yard.hosts.delete(host.name)


@pytest.mark.full
def test_host_suspended_for_ten_minutes_has_the_correct_time(
    yard: Yard, host: HostInfo, docker: Docker, busybox: bytes
) -> None:
    run_container(docker, host, busybox)
    before = inspect(docker, host)
    yard.hosts.suspend(host.name)
    time.sleep(600)
    after = yard.hosts.resume(host.name).object
    assert clock_error(after) < 1.0
    assert inspect(docker, after) == before
    assert (after.uuid, after.address, after.identity) == (host.uuid, host.address, host.identity)
    assert docker(after, "run", "--rm", "busybox", "echo", "awake").stdout == b"awake\n"
    assert not yard.hosts.apply(SPEC).changed


@pytest.mark.full
@pytest.mark.usefixtures("session_alone")
def test_host_that_libvirt_guests_saved_and_started_keeps_its_memory(
    yard: Yard, host: HostInfo, docker: Docker, busybox: bytes
) -> None:
    """At the shutdown of the hypervisor libvirt-guests saves machines, then the daemon ends. At its
    start, libvirt-guests starts them, before any controller runs.
    """
    run_container(docker, host, busybox)
    before = inspect(docker, host)
    virsh(yard, "managedsave", host.uuid)
    assert yard.hosts.get(host.name).state == "suspended"
    kill_daemons()
    # Longer than the difference of clocks that is tolerated.
    time.sleep(LIMIT + 2.0)
    virsh(yard, "start", host.uuid)
    (action,) = yard.hosts.apply(SPEC).plan.actions
    assert action.verb == "synchronize"
    after = yard.hosts.get(host.name)
    assert (after.ready, after.identity) == (True, host.identity)
    assert clock_error(after) < 1.0
    assert inspect(docker, after) == before
    assert not yard.hosts.apply(SPEC).changed


@pytest.mark.full
@pytest.mark.usefixtures("session_alone")
def test_suspended_yard_outlives_a_killed_daemon(
    yard: Yard, template: TemplateInfo, docker: Docker, busybox: bytes
) -> None:
    """As after a reboot of the hypervisor: no process of libvirt is left."""
    hosts = list(yard.fleets.apply(TEN).objects)
    try:
        for host in hosts[:2]:
            run_container(docker, host, busybox)
        before = {host.name: inspect(docker, host) for host in hosts[:2]}
        # Two as users and libvirt-guests save them.
        for host in hosts[2:4]:
            virsh(yard, "managedsave", host.uuid)
        yard.suspend()
        assert {host.state for host in yard.hosts.list(fleet=TEN.name)} == {"suspended"}
        kill_daemons()
        assert {host.state for host in yard.hosts.list(fleet=TEN.name)} == {"suspended"}
        plan = yard.fleets.apply(TEN, check=True).plan
        assert [action.verb for action in plan.actions] == ["resume"] * len(hosts)
        assert changes(play("site", OWNER, declaration=DECLARED)) == 1
        assert not yard.fleets.apply(TEN).changed
        after = {host.name: host for host in yard.hosts.list(fleet=TEN.name)}
        assert {host.uuid for host in after.values()} == {host.uuid for host in hosts}
        assert max(clock_error(host) for host in after.values()) < 1.0
        assert {name: inspect(docker, after[name]) for name in before} == before
    finally:
        yard.fleets.delete(TEN.name)
        # Hosts that the tests share were suspended with the yard.
        yard.resume()
