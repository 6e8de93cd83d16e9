# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host keeps its identity, its endpoint and its containers when its machine goes down and comes
back.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from stockyard import HostInfo, Plan, SingleSpec, TemplateInfo, Yard
from tests.helpers.values import present

from .conftest import FLEET, Docker, ssh

pytestmark = pytest.mark.real
Ordeal = dict[str, tuple[HostInfo, Plan, HostInfo]]
SAME = ("uuid", "address", "mac", "identity", "generation", "created")


def pid_of(uuid: str) -> int:
    """The QEMU process of a host."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"qemu-system" in line[0] and uuid.encode() in line:
                return int(entry.name)
    raise AssertionError(f"no QEMU runs {uuid}")


def there(yard: Yard, name: str) -> HostInfo:
    return yard.hosts.list(name=name)[0]


def same(before: HostInfo, after: HostInfo) -> None:
    assert [getattr(after, k) for k in SAME] == [getattr(before, k) for k in SAME]
    assert after.ready
    result = ssh(after, "hostname; cat /etc/machine-id; cat /sys/class/net/eth0/address")
    assert result.stdout.split() == [
        before.name,
        present(before.identity).machine_id,
        before.mac,
    ], result.stderr


@pytest.fixture(scope="module")
def ordeal(yard: Yard, fleet: list[HostInfo], docker: Docker, busybox: bytes) -> Iterator[Ordeal]:
    """Two boots at the same time: a single host is restarted, a killed member is restarted by its
    fleet.

    At the same time a fork idles.
    """
    yard.hosts.apply(SingleSpec("idle", "docker"))
    alone = yard.hosts.apply(SingleSpec("alone", "docker")).objects[0]
    victim = there(yard, "web-5")
    docker(victim, "import", "-", "busybox:latest", stdin=busybox)
    docker(
        victim, "run", "-d", "--restart", "always", "--name", "always", "busybox", "sleep", "100000"
    )
    ssh(victim, "sync")
    os.kill(pid_of(victim.uuid), signal.SIGKILL)
    wait_until_off(yard, "web-5")
    with ThreadPoolExecutor() as pool:
        restarted = pool.submit(yard.hosts.restart, "alone")
        plans = {"web-5": yard.fleets.apply(FLEET).plan, "alone": restarted.result().plan}
    yield {h.name: (h, plans[h.name], there(yard, h.name)) for h in (alone, victim)}
    for name in ("alone", "idle"):
        yard.hosts.delete(name)


def test_a_restarted_host_is_the_same(ordeal: Ordeal) -> None:
    before, plan, after = ordeal["alone"]
    assert [(a.verb, a.name) for a in plan.actions] == [("restart", "alone")]
    same(before, after)


def test_killed_host_is_restarted_with_its_containers(
    yard: Yard, docker: Docker, ordeal: Ordeal
) -> None:
    before, plan, after = ordeal["web-5"]
    assert [(a.verb, a.name) for a in plan.actions] == [("start", "web-5")]
    same(before, after)
    assert not yard.fleets.apply(FLEET).changed
    running(docker, after)


def wait_until_off(yard: Yard, name: str) -> None:
    end = time.monotonic() + 20
    while there(yard, name).state == "running":
        assert time.monotonic() < end
        time.sleep(0.2)


def running(docker: Docker, host: HostInfo) -> None:
    end = time.monotonic() + 60
    while docker(host, "ps", "--format", "{{.Names}}").stdout != b"always\n":
        assert time.monotonic() < end, "the container with a restart policy does not run"
        time.sleep(1)


def test_start_of_a_frozen_template_does_not_damage_it(template: TemplateInfo) -> None:
    folder = Path(template.storage) / "templates" / template.uuid
    before = {part: (folder / part).stat().st_mtime_ns for part in ("disk.qcow2", "ram", "state")}
    virsh = ["virsh", "-c", "qemu:///session"]
    subprocess.run([*virsh, "start", template.uuid], capture_output=True, check=False)
    time.sleep(2)
    subprocess.run([*virsh, "destroy", template.uuid], capture_output=True, check=False)
    assert {part: (folder / part).stat().st_mtime_ns for part in before} == before


def test_an_idle_fork_has_little_memory_of_its_own(yard: Yard, ordeal: Ordeal) -> None:
    """Compared with a cold boot: a fork writes a small part of the memory that a boot touches."""
    booted = present(there(yard, "web-5").memory).private_mib
    fork = there(yard, "idle").memory
    print(
        f"a host that was booted has {booted:.0f} MiB of its own, an idle fork of the same age "
        f"{fork}"
    )
    assert present(fork).shared_mib > present(fork).private_mib
    assert present(fork).private_mib <= 0.15 * booted


def test_panic_of_the_kernel_ends_the_machine(yard: Yard, ordeal: Ordeal) -> None:
    """Without its panic device, the guest would stand still and count as running."""
    idle = there(yard, "idle")
    with suppress(subprocess.TimeoutExpired):
        ssh(idle, "sudo sh -c 'echo c >/proc/sysrq-trigger'", timeout=10)
    wait_until_off(yard, "idle")
