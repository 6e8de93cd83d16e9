# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts in all states are branched: leased, booted, restored and enlarged. Containers of a child
continue, are paused, restarted or stopped, and its memory can be saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from stockyard import BranchSpec, FleetSpec, HostInfo, HostSpec, SingleSpec, TemplateInfo, Yard

from .branched_hosts import check_counter, leftovers, start_counter
from .conftest import Docker, ssh
from .test_lifecycle import virsh

pytestmark = [pytest.mark.real, pytest.mark.full]
STARTED = "{{.Id}} {{.State.StartedAt}} {{.State.Pid}} {{.State.Running}}"


@pytest.fixture
def trunk(yard: Yard, template: TemplateInfo, docker: Docker, busybox: bytes) -> Iterator[HostInfo]:
    """A host in which a container counts."""
    host = yard.hosts.apply(SingleSpec("trunk-4", "docker")).object
    start_counter(docker, host, busybox)
    yield host
    delete_all(yard, "trunk-4", "shoot")
    assert leftovers(yard) == set()


def test_the_certificate_of_a_lease_opens_no_child(yard: Yard, docker: Docker) -> None:
    """Children of a leased host are leased to the same holder, each with its own certificate."""
    yard.fleets.apply(FleetSpec("lent", "docker", count=1))
    try:
        parent = yard.leases.acquire("lent", holder="job", duration="30m").info
        yard.hosts.branch(BranchSpec(parent.host, ("shoot",), lease=parent.id))
        (child,) = (info for info in yard.leases.list(holder="job") if info.host == "shoot")
        for lease, second in ((parent, child), (child, parent)):
            docker(lease, "info")
            environment = {
                **lease.docker.environment,
                "DOCKER_HOST": second.docker.environment["DOCKER_HOST"],
            }
            wrong = replace(lease, docker=replace(lease.docker, environment=environment))
            assert docker(wrong, "info", check=False).returncode
    finally:
        yard.hosts.delete("shoot")
        yard.fleets.delete("lent")


@pytest.mark.parametrize(
    ("action", "state"), [("pause", "paused"), ("stop", "exited"), ("restart", "running")]
)
def test_containers_are_changed_in_children_only(
    yard: Yard, docker: Docker, trunk: HostInfo, action: str, state: str
) -> None:
    before = facts(docker, trunk)
    child = yard.hosts.branch(BranchSpec(trunk.name, ("shoot",), containers=action)).object
    status = docker(child, "inspect", "counter", "--format", "{{.State.Status}}").stdout
    assert status.decode().strip() == state
    check_counter(docker, trunk)
    assert facts(docker, trunk) == before
    assert (facts(docker, child) == before) == (action == "pause")
    if action == "pause":
        docker(child, "unpause", "counter")
    elif action == "stop":
        docker(child, "start", "counter")
    docker(child, "exec", "counter", "true")


def facts(docker: Docker, host: HostInfo) -> str:
    """The number, the start and the process of the counter, and whether it runs."""
    return docker(host, "inspect", "counter", "--format", STARTED).stdout.decode()


def memory_of(host: HostInfo) -> str:
    """The memory of a host as its kernel sees it."""
    return ssh(host, "grep MemTotal /proc/meminfo").stdout


def test_a_booted_host_can_be_branched_also_after_its_memory_was_saved(
    yard: Yard, docker: Docker, busybox: bytes, template: TemplateInfo
) -> None:
    """A fork, a boot and a boot after a save have RAM of one layout."""
    spec = SingleSpec("stump", "docker", host=HostSpec(fork_mode="linked", vcpus=2))
    try:
        host = yard.hosts.apply(spec, timeout=900).object
        start_counter(docker, host, busybox)
        for number in (1, 2):
            (child,) = yard.hosts.branch(BranchSpec("stump", (f"shoot-{number}",))).objects
            assert facts(docker, child) == facts(docker, host)
            check_counter(docker, child)
            assert ssh(child, "nproc").stdout == "2\n"
            yard.hosts.delete(child.name)
            virsh(yard, "managedsave", host.uuid)
            assert [action.verb for action in yard.hosts.apply(spec).plan.actions] == ["resume"]
            check_counter(docker, host)
    finally:
        delete_all(yard, "stump", "shoot")


def test_a_host_that_grew_while_it_ran_can_be_branched(
    yard: Yard, growable: TemplateInfo, docker: Docker, busybox: bytes
) -> None:
    """Memory modules and vCPUs were plugged in. A child of the child has them too."""
    spec = SingleSpec("stump", growable.name)
    host = yard.hosts.apply(spec).object
    try:
        start_counter(docker, host, busybox)
        size = HostSpec(vcpus=2, memory_mib=host.size.memory_mib + 256)
        (action,) = yard.hosts.apply(replace(spec, host=size)).plan.actions
        assert action.verb == "resize"
        before, memory = facts(docker, host), memory_of(host)
        for parent, name in (("stump", "shoot"), ("shoot", "shoot-2")):
            child = yard.hosts.branch(BranchSpec(parent, (name,))).object
            assert facts(docker, child) == before
            check_counter(docker, child)
            assert (memory_of(child), ssh(child, "nproc").stdout) == (memory, "2\n")
    finally:
        delete_all(yard, "stump", "shoot")


def test_the_memory_of_a_child_is_saved_and_restored(
    yard: Yard, docker: Docker, trunk: HostInfo
) -> None:
    """As libvirt-guests saves it when the hypervisor shuts down, after its parent was deleted."""
    child = yard.hosts.branch(BranchSpec(trunk.name, ("shoot",))).object
    before = facts(docker, child)
    yard.hosts.delete(trunk.name)
    virsh(yard, "managedsave", child.uuid)
    assert yard.hosts.get(child.name).state == "suspended"
    resumed = yard.hosts.resume(child.name).object
    assert (resumed.ready, resumed.identity) == (True, child.identity)
    assert facts(docker, resumed) == before
    check_counter(docker, resumed)


def delete_all(yard: Yard, *prefixes: str) -> None:
    for host in yard.hosts.list():
        if host.name.startswith(prefixes):
            yard.hosts.delete(host.name)
