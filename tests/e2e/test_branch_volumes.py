# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running host with a volume is branched while a container writes to the volume: each child
continues on a copy of its own, or has no volume.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from stockyard import (
    BranchSpec,
    HostInfo,
    SingleSpec,
    TemplateInfo,
    VolumeSpec,
    Yard,
)
from stockyard.providers.libvirt.layers import backing, top
from stockyard.providers.libvirt.provider import LibvirtProvider
from stockyard.providers.libvirt.volumes import LibvirtVolumes

from .conftest import OWNER, Docker, ssh

pytestmark = [pytest.mark.real, pytest.mark.full]
PARENT = "store"
# A container that writes a number into a file on the volume, many times a second.
COUNT = "n=0; while true; do n=$((n+1)); echo $n >>/data/numbers; sleep 0.02; done"


def volumes_of(yard: Yard) -> LibvirtVolumes:
    provider = yard.context.provider
    assert isinstance(provider, LibvirtProvider)
    return provider.volumes


@pytest.fixture(scope="module")
def parent(
    yard: Yard, template: TemplateInfo, docker: Docker, busybox: bytes
) -> Iterator[HostInfo]:
    """A host with a volume that a container writes to, and another container."""
    host = yard.hosts.apply(SingleSpec(PARENT, "docker")).object
    yard.volumes.attach(VolumeSpec("numbers", size_gib=1), host=PARENT, path="/data")
    docker(host, "import", "-", "busybox:latest", stdin=busybox)
    run = ("run", "-d", "--name")
    docker(host, *run, "counter", "-v", "/data:/data", "busybox", "/bin/sh", "-c", COUNT)
    docker(host, *run, "other", "busybox", "/bin/sh", "-c", "while true; do sleep 1; done")
    yield host
    for existing in yard.hosts.list():
        if existing.name.startswith((PARENT, "shoot")):
            yard.hosts.delete(existing.name)
    for volume in yard.volumes.list():
        if volume.name.endswith("numbers"):
            yard.volumes.delete(volume.name)
    folder = volumes_of(yard).layers.folder
    assert not folder.is_dir() or list(folder.iterdir()) == []


@pytest.fixture
def tidy(yard: Yard) -> Iterator[None]:
    """Delete the children of a test with their volumes."""
    yield
    for existing in yard.hosts.list():
        if existing.name.startswith("shoot"):
            yard.hosts.delete(existing.name)
    for volume in yard.volumes.list():
        if volume.name.startswith("shoot"):
            yard.volumes.delete(volume.name)


def output(host: HostInfo, command: str) -> str:
    """Return the output of a command in a host, which must succeed."""
    result = ssh(host, command)
    assert result.returncode == 0, result.stderr
    return result.stdout


def numbers(host: HostInfo) -> list[int]:
    """The numbers in the file on a host's volume."""
    return [int(line) for line in output(host, "cat /data/numbers").split()]


def check_writes(host: HostInfo) -> None:
    """Check that the container of a host continues, and that no number is missing."""
    before = numbers(host)
    time.sleep(1)
    after = numbers(host)
    assert len(after) > len(before) > 0, host.name
    assert after == list(range(1, len(after) + 1)), host.name


def check_file_system(host: HostInfo) -> None:
    log = ssh(host, "sudo dmesg | grep -Ei 'ext4-fs (error|warning)|I/O error|aborted'").stdout
    assert log == "", host.name
    written = ssh(host, "sudo touch /data/written && sudo sync && echo done").stdout
    assert written.strip() == "done", host.name


@pytest.mark.usefixtures("tidy")
def test_each_child_continues_on_a_copy(yard: Yard, parent: HostInfo, docker: Docker) -> None:
    begin = time.monotonic()
    children = yard.hosts.branch(BranchSpec(PARENT, ("shoot-1", "shoot-2"))).objects
    print(f"\nbranch with a volume, and two children: {time.monotonic() - begin:.1f} s")
    for host in (parent, *children):
        check_writes(host)
        check_file_system(host)
    assert ssh(parent, "sudo sh -c 'echo parent >/data/who'").returncode == 0
    assert ssh(children[0], "cat /data/who").returncode
    folder = volumes_of(yard).files.folder
    tops = {
        volume.name: top(folder / volume.uuid)
        for volume in yard.volumes.list()
        if volume.name.endswith("numbers")
    }
    assert set(tops) == {"numbers", "shoot-1-numbers", "shoot-2-numbers"}
    assert len({backing(path) for path in tops.values()}) == 1
    yard.hosts.delete("shoot-1")
    yard.volumes.delete("shoot-1-numbers")
    child = yard.hosts.restart("shoot-2", timeout=900).object
    assert child.ready
    docker(child, "start", "counter")
    counted = numbers(child)
    time.sleep(1)
    assert len(numbers(child)) > len(counted)
    check_file_system(child)


@pytest.mark.usefixtures("tidy")
def test_the_parent_restarts_on_its_overlay(yard: Yard, parent: HostInfo, docker: Docker) -> None:
    yard.hosts.branch(BranchSpec(PARENT, ("shoot-3",), volumes="none"))
    counted = numbers(parent)
    host = yard.hosts.restart(PARENT, timeout=900).object
    assert numbers(host)[: len(counted)] == counted
    assert ssh(host, "sudo rm /data/numbers").returncode == 0
    docker(host, "start", "counter", "other")
    check_writes(host)
    check_file_system(host)


@pytest.mark.usefixtures("tidy")
def test_a_child_without_volumes_has_only_the_containers_that_need_none(
    yard: Yard, parent: HostInfo, docker: Docker
) -> None:
    (child,) = yard.hosts.branch(BranchSpec(PARENT, ("shoot-4",), volumes="none")).objects
    check_writes(parent)
    states = docker(child, "ps", "--all", "--format", "{{.Names}} {{.State}}").stdout.decode()
    assert sorted(states.split("\n"))[1:] == ["counter exited", "other running"]
    assert output(child, "ls -A /data") == ""
    assert output(child, "lsblk --noheadings --nodeps --output NAME").split() == ["vda"]
    record = yard.context.provider.observe(OWNER).host("default", child.name)
    assert record is not None
    with yard.context.guest(record.record, yard.context.deadline(60)) as guest:
        assert guest.hello().missing == ()
    assert [volume.name for volume in yard.volumes.list() if "shoot" in volume.name] == []


@pytest.mark.usefixtures("tidy")
def test_ten_branches_in_a_row_leave_a_short_chain(yard: Yard, parent: HostInfo) -> None:
    volumes = volumes_of(yard)
    uuid = yard.volumes.get("numbers").uuid
    for number in range(10):
        begin = time.monotonic()
        (child,) = yard.hosts.branch(BranchSpec(PARENT, ("shoot-5",))).objects
        print(f"branch {number + 1}: {time.monotonic() - begin:.1f} s")
        check_writes(child)
        yard.hosts.delete("shoot-5")
        yard.volumes.delete("shoot-5-numbers")
        assert len(list(volumes.layers.folder.iterdir())) <= 8
    check_writes(parent)
    check_file_system(parent)
    assert top(volumes.files.folder / uuid).exists()
