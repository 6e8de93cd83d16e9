# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller is killed while it branches a host: the host continues, and the next run and the
next reap leave what is declared.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import libvirt
import pytest

from stockyard import BranchSpec, HostInfo, SingleSpec, TemplateInfo, VolumeSpec, Yard
from stockyard.providers.libvirt.provider import LibvirtProvider

from .conftest import OWNER, WORK, ssh

pytestmark = [
    pytest.mark.real,
    pytest.mark.full,
    pytest.mark.usefixtures("nothing_is_built"),
]
PARENT, CHILD = "trunk-3", "shoot"
# Rounds of kills without a volume, and kills with one. `make test` kills a branch in tests/crash.
ROUNDS, MANY, FEW = 4, 15, 4
# Seconds in which the parent of a killed controller runs again.
RECOVERY = 2.0
# The length of a branch, until it is measured.
SECONDS = 12.0


@pytest.fixture
def parent(yard: Yard, template: TemplateInfo) -> Iterator[HostInfo]:
    yield yard.hosts.apply(SingleSpec(PARENT, "docker")).object
    for name in (PARENT, CHILD):
        yard.hosts.delete(name)


KILLED = """
import sys
from stockyard import BranchSpec, Yard
owner, store, pki, name, child = sys.argv[1:]
with Yard("qemu:///session", owner=owner, storage=store, pki_dir=pki) as yard:
    print("begin", flush=True)
    yard.hosts.branch(BranchSpec(name, (child,)), timeout=900)
"""


@pytest.fixture
def volume(yard: Yard, parent: HostInfo, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the parent's volume, if it has one."""
    name = "crashed" if request.param else ""
    if name:
        yard.volumes.attach(VolumeSpec(name, size_gib=1), host=PARENT, path="/data")
        assert ssh(parent, "sudo sh -c 'seq 100000 >/data/text && sync'").returncode == 0
    yield name
    for record in (PARENT, CHILD):
        yard.hosts.delete(record)
    for existing in names_of_volumes(yard):
        yard.volumes.delete(existing)


def names_of_volumes(yard: Yard) -> set[str]:
    return {info.name for info in yard.volumes.list() if info.name.endswith("crashed")}


@pytest.mark.parametrize(
    ("volume", "crashes"),
    [
        *(pytest.param(False, MANY, id=f"many-{number}") for number in range(1, ROUNDS + 1)),
        pytest.param(True, FEW, id="volume"),
    ],
    indirect=["volume"],
)
def test_a_killed_controller_leaves_a_running_parent(
    yard: Yard, parent: HostInfo, volume: str, crashes: int
) -> None:
    """One run and one reap after that, in either order, leave what is declared."""
    provider, spec = yard.context.provider, BranchSpec(parent.name, (CHILD,))
    assert isinstance(provider, LibvirtProvider)
    domain = provider.connection.lookupByUUIDString(parent.uuid)
    length = SECONDS
    command = [sys.executable, "-c", KILLED, OWNER, str(WORK / "store"), str(WORK / "pki")]
    draw = random.Random()  # noqa: S311  # moments, no secrets
    for crash in range(crashes):
        part = (crash + draw.random()) / crashes
        with subprocess.Popen([*command, parent.name, CHILD], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begin\n"
            time.sleep(part * length)
            process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        while domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
            assert time.monotonic() < killed + RECOVERY, f"killed at {part:.0%}"
            time.sleep(0.02)
        recovery = time.monotonic() - killed
        print(f"killed at {part:.0%} of {length:.1f} s: the parent ran after {recovery:.2f} s")
        time.sleep(RECOVERY)
        assert domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
        if crash % 2:
            yard.reap(grace=0.0)
        begin = time.monotonic()
        if yard.hosts.branch(spec).changed:
            length = time.monotonic() - begin
        else:
            # The branch was complete before the kill.
            length *= part
        if not crash % 2:
            yard.reap(grace=0.0)
        assert yard.hosts.get(CHILD).ready
        assert len(list(provider.store.branches.iterdir())) == 1
        yard.hosts.delete(CHILD)
        assert not list(provider.store.branches.iterdir())
        if volume:
            assert names_of_volumes(yard) == {volume, f"{CHILD}-{volume}"}
            yard.volumes.delete(f"{CHILD}-{volume}")
            assert ssh(parent, "seq 100000 | cmp - /data/text").returncode == 0
        assert {host.name for host in yard.hosts.list()} & {CHILD, parent.name} == {parent.name}
