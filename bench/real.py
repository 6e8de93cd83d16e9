# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Yard of real guests for measurements: one template, which stays in build/bench, and temporary
hosts.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stockyard import HostInfo, ImageSpec, TemplateInfo, TemplateSpec, Yard
from stockyard.providers.libvirt.memory import guest_ram
from stockyard.providers.libvirt.processes import running
from tests.e2e.conftest import ssh

from . import floor

OWNER = "bench"
IMAGE = "busybox:latest"
# Docker gets an image with one static program, which is built in the guest from the guest's
# package.
PRELOAD = (
    "mkdir -p /run/bench/bin && cp /bin/busybox /run/bench/bin/",
    "for name in sh true sleep; do ln -s busybox /run/bench/bin/$name; done",
    f"tar -C /run/bench -c . | docker import - {IMAGE}",
    "rm -r /run/bench",
)
TEMPLATE = TemplateSpec(
    floor.TEMPLATE,
    image=ImageSpec(packages=("busybox-static",), files=floor.FILES, commands=PRELOAD),
)
TICKS = 100.0


@contextmanager
def opened(work: Path) -> Iterator[tuple[Yard, TemplateInfo]]:
    """Yield a yard without hosts, and its template. All hosts are deleted afterwards."""
    with Yard(
        "qemu:///session", owner=OWNER, storage=str(work / "store"), pki_dir=str(work / "pki")
    ) as yard:
        yard.teardown()
        template = yard.templates.apply(TEMPLATE).objects[-1]
        yard.templates.prune()
        try:
            yield yard, template
        finally:
            yard.teardown()


def processor_seconds(hosts: list[HostInfo]) -> float:
    """Return the processor time of the machines of these hosts so far (proc(5))."""
    processes, total = running(), 0.0
    for host in hosts:
        words = (
            Path("/proc", str(processes[host.uuid]), "stat")
            .read_text(encoding="ascii")
            .rpartition(")")[2]
            .split()
        )
        total += (int(words[11]) + int(words[12])) / TICKS
    return total


def private_mib(yard: Yard, host: HostInfo) -> float:
    """Return the private RAM of a guest."""
    # The connection of libvirt.
    domain = yard.context.provider.connection.lookupByUUIDString(host.uuid)  # type: ignore[attr-defined]
    usage = guest_ram(running()[host.uuid], domain.maxMemory())
    if usage is None:
        raise RuntimeError(f"the memory of {host.name} cannot be read")
    return usage.private_mib


def in_guest(host: HostInfo, program: str, *arguments: str, timeout: float = 300) -> str:
    """Run a Python program as root in a host and return its output."""
    process = ssh(host, "sudo", "python3", "-", *arguments, stdin=program, timeout=timeout)
    if process.returncode:
        raise subprocess.CalledProcessError(
            process.returncode, "python3", process.stdout, process.stderr
        )
    return process.stdout


def wait_idle(seconds: float) -> None:
    """Wait until the machine is idle, before a measurement that other work would disturb."""
    time.sleep(seconds)
