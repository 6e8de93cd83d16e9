# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derived templates on real guests: hosts have the content of every level, the security profile of
the first, and an identity of their own; no level needs an earlier one afterwards.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    Declaration,
    FleetSpec,
    HostInfo,
    ImageSpec,
    SingleSpec,
    TemplateInfo,
    TemplateSpec,
    TemplateTerm,
    Yard,
)
from stockyard.model.preload import Preload
from stockyard.model.provision import Provision
from tests.helpers.values import present

from . import guest_controller
from .conftest import Docker, ssh
from .test_attacks import TEMPLATES

pytestmark = pytest.mark.real
PARENT = TEMPLATES["hostile"]
PACKAGE = "tree"
SAMPLE = "level"
FILES = "/etc/derived /etc/second /etc/third"
FORKS, RATIO = 5, 1.1
PREPARED = (PARENT,)


@pytest.fixture(scope="module")
def parent(yard: Yard) -> TemplateInfo:
    return yard.templates.apply(PARENT).object


@pytest.fixture(scope="module")
def spec(busybox: bytes, tmp_path_factory: pytest.TempPathFactory) -> TemplateSpec:
    rootfs = tmp_path_factory.mktemp("derive") / "base.tar"
    rootfs.write_bytes(busybox)
    image = ImageSpec(
        packages=(PACKAGE,),
        files={"/etc/derived": "one level\n"},
        preload=(Preload("rootfs", str(rootfs), "base:1"),),
        commands=("docker image inspect base:1 >/dev/null", "echo was-here > /etc/was-here"),
    )
    return TemplateSpec("derived", parent=PARENT.name, image=image)


@pytest.fixture(scope="module")
def derived(yard: Yard, parent: TemplateInfo, spec: TemplateSpec) -> Iterator[TemplateInfo]:
    yield yard.templates.apply(spec).object
    yard.templates.delete(spec.name)


@pytest.fixture(scope="module")
def hosts(yard: Yard, derived: TemplateInfo) -> Iterator[list[HostInfo]]:
    """Two hosts, to compare their identities."""
    yield list(yard.fleets.apply(FleetSpec("derived", derived.name, count=2)).objects)
    yard.fleets.delete("derived")


def test_hosts_have_the_difference(
    hosts: list[HostInfo], docker: Docker, derived: TemplateInfo, parent: TemplateInfo
) -> None:
    assert (derived.parent, derived.parent_generation) == (parent.name, parent.generation)
    look = f"command -v {PACKAGE}; cat /etc/derived /etc/was-here; uptime -s; dpkg --audit"
    lines = ssh(hosts[0], look).stdout.splitlines()
    assert lines[:3] == ["/usr/bin/tree", "one level", "was-here"]
    assert len(lines) == 4
    ran = docker(hosts[0], "run", "--rm", "base:1", "echo", "from a container")
    assert ran.stdout == b"from a container\n"


def test_nothing_of_the_way_in_is_left(hosts: list[HostInfo]) -> None:
    look = (
        "sudo sh -c 'cat /etc/ssh/stockyard_authorized_keys; ls /etc/ssh/*_key "
        "/var/lib/stockyard /var/cache/apt/archives; "
        "for thread in $(cat /sys/fs/cgroup/system.slice/stockyard-agent.service/cgroup.threads); "
        "do chrt --pid $thread; done'"
    )
    text = ssh(hosts[0], look).stdout
    assert text.count("ssh-ed25519") == 1
    assert text.count("ssh_host_") == 1
    for word in ("packages", "preload", "provision", ".deb", "SCHED_RR"):
        assert word not in text


def test_each_host_has_its_own_identity(hosts: list[HostInfo], derived: TemplateInfo) -> None:
    identities = [present(host.identity) for host in hosts]
    for attribute in ("machine_id", "ssh_host_key", "certificate"):
        assert len({getattr(identity, attribute) for identity in identities}) == len(hosts)
    assert len({derived.mac, *(host.mac for host in hosts)}) == len(hosts) + 1
    assert all(host.ready for host in hosts)


def audit(host: HostInfo, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the findings of the module audit in a host that must have the hostile profile."""
    security = {"profile": "hostile", "limits": present(PARENT.security.limits)}
    return guest_controller.audit(
        host, tmp_path_factory.mktemp("audit"), security=security, fail=True
    )


def test_security_profile_of_the_parent_is_in_force(
    hosts: list[HostInfo], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert audit(hosts[0], tmp_path_factory)["compliant"]


def test_second_run_changes_nothing(yard: Yard, derived: TemplateInfo, spec: TemplateSpec) -> None:
    assert not yard.templates.apply(spec).changed


@pytest.mark.full
def test_declared_profile_replaces_that_of_the_parent(
    yard: Yard, spec: TemplateSpec, docker: Docker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    yard.templates.apply(TEMPLATES["shared"])
    stricter = replace(spec, name="stricter", parent="shared", security=PARENT.security)
    yard.templates.apply(stricter)
    try:
        (host,) = yard.fleets.apply(FleetSpec("stricter", "stricter", count=1)).objects
        assert audit(host, tmp_path_factory)["compliant"]
        assert docker(host, "run", "--rm", "base:1", "true").returncode == 0
        refused = docker(host, "run", "--rm", "--privileged", "base:1", "true", check=False)
        assert refused.returncode != 0
    finally:
        yard.fleets.delete("stricter")
        yard.templates.delete("stricter")


@pytest.fixture
def levels(yard: Yard, spec: TemplateSpec) -> Iterator[tuple[TemplateSpec, ...]]:
    """Three levels over a template with the profile shared. None of them restarts the guest."""
    yield (
        replace(spec, name="level-1", parent="shared"),
        TemplateSpec("level-2", parent="level-1", image=ImageSpec(files={"/etc/second": "2\n"})),
        TemplateSpec("level-3", parent="level-2", image=ImageSpec(files={"/etc/third": "3\n"})),
    )
    yard.hosts.delete(SAMPLE)
    for number in (3, 2, 1):
        yard.templates.delete(f"level-{number}")


def declare(levels: Iterable[TemplateSpec]) -> Declaration:
    """Return a declaration that names children before their parents."""
    specs = (*reversed(tuple(levels)), TEMPLATES["shared"])
    return Declaration(tuple(TemplateTerm(spec) for spec in specs))


def chain(yard: Yard) -> list[str]:
    """Return the generations of all levels, each derived from the one before it."""
    infos = [yard.templates.get(name) for name in ("shared", "level-1", "level-2", "level-3")]
    for parent, child in pairwise(infos):
        assert (child.parent, child.parent_generation) == (parent.name, parent.generation)
    return [info.generation for info in infos]


def fork_seconds(yard: Yard, template: str) -> float:
    """Return the seconds until a fork is ready."""
    begin = time.monotonic()
    yard.hosts.apply(SingleSpec(SAMPLE, template))
    duration = time.monotonic() - begin
    yard.hosts.delete(SAMPLE)
    return duration


@pytest.mark.full
def test_three_levels_follow_the_first_and_are_forked_as_fast(
    yard: Yard, levels: tuple[TemplateSpec, ...], docker: Docker
) -> None:
    yard.templates.apply(TEMPLATES["shared"])
    builds = [f"build template {level.name}" for level in levels]
    for check in (True, False):
        plan = yard.apply(declare(levels), check=check).plan
        assert [str(action).partition(":")[0] for action in plan.actions] == builds
    generations = chain(yard)

    host = yard.hosts.apply(SingleSpec(SAMPLE, "level-3")).object
    content = ssh(host, f"command -v {PACKAGE}; cat {FILES}").stdout
    assert content.splitlines() == ["/usr/bin/tree", "one level", "2", "3"]
    assert docker(host, "run", "--rm", "base:1", "true").returncode == 0
    yard.hosts.delete(SAMPLE)

    # The shortest of several: other processes only lengthen a fork.
    seconds: dict[str, list[float]] = {"shared": [], "level-3": []}
    for _sample in range(FORKS):
        for name, durations in seconds.items():
            durations.append(fork_seconds(yard, name))
    ratio = min(seconds["level-3"]) / min(seconds["shared"])
    print(f"fork of the third level / fork of the first parent: {ratio:.2f}", seconds)
    assert ratio <= RATIO

    first = replace(levels[0], image=replace(levels[0].image, files={"/etc/derived": "again\n"}))
    for check in (True, False):
        plan = yard.apply(declare((first, *levels[1:])), check=check).plan
        assert [str(action).partition(":")[0] for action in plan.actions] == builds
    later = chain(yard)
    assert later[0] == generations[0]
    assert not set(later[1:]) & set(generations[1:])
    host = yard.hosts.apply(SingleSpec(SAMPLE, "level-3")).object
    assert ssh(host, f"cat {FILES}").stdout.splitlines() == ["again", "2", "3"]
    assert not yard.apply(declare((first, *levels[1:]))).changed


@pytest.mark.full
def test_levels_need_no_earlier_one(
    yard: Yard, parent: TemplateInfo, spec: TemplateSpec, docker: Docker, tmp_path: Path
) -> None:
    """The first level has an image, the second a playbook, the third a file for which the guest is
    restarted. Each host is forked after its parents are deleted, in every mode.
    """
    play: list[dict[str, Any]] = [
        {"name": "Say it", "ansible.builtin.shell": "echo two > /etc/level", "become": True}
    ]
    (tmp_path / "site.yml").write_text(json.dumps([{"hosts": "template", "tasks": play}]))
    first = replace(spec, name="level-1")
    second = TemplateSpec(
        "level-2", parent="level-1", provision=Provision(str(tmp_path / "site.yml"))
    )
    third = TemplateSpec(
        "level-3",
        parent="level-2",
        image=ImageSpec(files={"/etc/sysctl.d/99-level.conf": "kernel.panic = 17\n"}),
    )
    try:
        for level in (first, second, third):
            yard.templates.apply(level)
        for deleted_level in ("level-1", "level-2"):
            yard.templates.delete(deleted_level)
        for mode in ("instant", "linked", "full"):
            declared = FleetSpec("level", "level-3", count=1)
            declared = replace(declared, host=replace(declared.host, fork_mode=mode))
            (host,) = yard.fleets.apply(declared).objects
            output = ssh(host, f"cat /etc/level; command -v {PACKAGE}; cat /proc/sys/kernel/panic")
            assert output.stdout.split() == ["two", "/usr/bin/tree", "17"]
            assert docker(host, "run", "--rm", "base:1", "true").returncode == 0
            yard.fleets.delete("level")
    finally:
        yard.fleets.delete("level")
        for level in (third, second, first):
            yard.templates.delete(level.name)
