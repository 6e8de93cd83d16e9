# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running host is branched while a container runs in it: the host continues, and its children
have the container and an identity of their own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from stockyard import BranchSpec, HostInfo, OperationRefused, SingleSpec, TemplateInfo, Yard
from tests.helpers.machine_pauses import Pauses, session_uri

from .branched_hosts import (
    LogFollower,
    check_counter,
    check_identities,
    leftovers,
    libvirt_of,
    numbers,
    places_of,
    private_keys,
    start_counter,
)
from .conftest import OWNER, Docker, ssh

pytestmark = pytest.mark.real
PARENT, CHILDREN = "trunk", ("twig-1", "twig-2")
# Milliseconds for which a container's output may be silent because of the branch.
GAP = 300.0
# An emulated host of QEMU before 9.0 is stopped while its memory is copied, and a loaded machine
# delays everything.
LONGEST_PAUSE = 20_000.0


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
    start_counter(docker, host, busybox)
    yield host
    for name in (PARENT, *CHILDREN):
        yard.hosts.delete(name)
    assert leftovers(yard) == set()


@pytest.fixture(scope="module")
def branched(yard: Yard, parent: HostInfo, docker: Docker) -> Branched:
    pauses = Pauses(session_uri(yard), parent.uuid)
    with LogFollower(docker, parent) as output:
        time.sleep(3)
        begin = time.monotonic()
        result = yard.hosts.branch(BranchSpec(PARENT, CHILDREN))
        end = time.monotonic()
        pause = pauses.milliseconds()
    assert [str(action) for action in result.plan.actions] == [
        f"create host {name}: branched from host {PARENT}" for name in CHILDREN
    ]
    stop = next(moment for name, moment in pauses.events if name == "STOP")
    stopped = time.monotonic() - (time.time() - stop)
    figures = Branched(
        parent,
        result.objects,
        pause,
        output.gap_ms(stopped - 1, stopped + pause / 1000 + 1),
        output.gap_ms(begin - 3, begin),
        end - begin,
    )
    print(
        f"\nSTOP to RESUME {pause:.0f} ms; silence {figures.gap_ms:.0f} ms, without a branch "
        f"{figures.usual_gap_ms:.0f} ms; branch and two children {figures.seconds:.1f} s"
    )
    for host in (yard.hosts.get(PARENT), *result.objects):
        print(host.name, host.memory)
    return figures


@pytest.fixture(scope="module")
def quiet(docker: Docker, branched: Branched) -> Branched:
    """The same hosts while their containers are paused: three that count slow all down."""
    for host in (branched.parent, *branched.children):
        docker(host, "pause", "counter")
    return branched


def test_the_parent_continues_after_a_stop(docker: Docker, branched: Branched) -> None:
    assert branched.pause_ms < LONGEST_PAUSE
    assert branched.gap_ms < branched.usual_gap_ms + max(GAP, branched.pause_ms + 200)
    check_counter(docker, branched.parent)


def test_each_child_has_the_running_container(docker: Docker, branched: Branched) -> None:
    started = "{{.Id}} {{.State.StartedAt}} {{.State.Pid}} {{.State.Running}}"
    of_parent = docker(branched.parent, "inspect", "counter", "--format", started).stdout
    assert of_parent.endswith(b"true\n")
    for child in branched.children:
        assert docker(child, "inspect", "counter", "--format", started).stdout == of_parent
        check_counter(docker, child)


def test_no_file_system_is_damaged(quiet: Branched) -> None:
    for host in (quiet.parent, *quiet.children):
        log = "dmesg | grep -Ei 'ext4-fs (error|warning)|I/O error|aborted'"
        script = f"{log}; touch /root/written && sync && echo written"
        assert ssh(host, f'sudo sh -c "{script}"').stdout == "written\n", host.name


def test_each_host_has_an_identity_of_its_own(quiet: Branched) -> None:
    check_identities((quiet.parent, *quiet.children))


def test_no_key_of_the_parent_is_in_a_process_or_a_file_of_a_child(quiet: Branched) -> None:
    keys = private_keys(quiet.parent)
    for child in quiet.children:
        assert places_of(keys, child) == "", child.name


def test_generators_differ(yard: Yard, quiet: Branched) -> None:
    uuids = {host.uuid for host in (quiet.parent, *quiet.children)}
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
def test_template_is_kept_while_a_branch_uses_it(
    yard: Yard, template: TemplateInfo, branched: Branched
) -> None:
    templates = yard.context.provider.observe(OWNER).templates
    (record,) = [item.record for item in templates if item.record.uuid == template.uuid]
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
