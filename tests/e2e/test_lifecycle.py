# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that run are never lost: other shells, memory that libvirt saved, taken ports, and clocks
that stood still.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stockyard import Conflict, HostInfo, SingleSpec, StockyardError, TemplateInfo, Yard
from stockyard.providers.libvirt import processes

from .conftest import FLEET, WORK, ssh

pytestmark = pytest.mark.real
SAVED = SingleSpec("saved", "docker")
CONVERGE = """
import json, sys
from stockyard import FleetSpec, HostSpec, Yard
owner, storage, pki = sys.argv[1:]
with Yard("qemu:///session", owner=owner, storage=storage, pki_dir=pki) as yard:
    states = [h.state for h in yard.hosts.list(fleet="web")]
    host = HostSpec(ports=(8080,))
    spec = FleetSpec("web", "docker", count=10, host=host, labels={"suite": "e2e"})
    print(json.dumps([states, [str(a) for a in yard.fleets.apply(spec).plan.actions]]))
"""


def virsh(yard: Yard, *arguments: str) -> str:
    """Run virsh against the daemon that has the yard's machines."""
    provider: Any = yard.context.provider
    line = ["virsh", "-q", "-c", provider.connection.getURI(), *arguments]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout


def processes_in(host: HostInfo) -> list[str]:
    """The boot and the processes of a guest that are not of this question."""
    result = ssh(
        host, "cat /proc/sys/kernel/random/boot_id; pidof dockerd containerd systemd-journald"
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.fixture
def host(yard: Yard, template: TemplateInfo) -> Iterator[HostInfo]:
    """A host of its own."""
    yield yard.hosts.apply(SAVED).objects[0]
    yard.hosts.delete(SAVED.name)


@pytest.mark.parametrize("where", ["another", "none", "cron"])
def test_run_from_another_shell_finds_the_same_hosts(
    yard: Yard, fleet: list[HostInfo], tmp_path: Path, where: str
) -> None:
    assert FLEET.count == len(fleet)
    before = processes.running()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")}
    if where == "another":
        environment |= {
            "XDG_RUNTIME_DIR": str(tmp_path),
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
        }
    if where == "cron":
        environment = {"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin"}
    line = [
        sys.executable,
        "-c",
        CONVERGE,
        yard.context.owner,
        str(WORK / "store"),
        str(WORK / "pki"),
    ]
    result = subprocess.run(
        line, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [["running"] * len(fleet), []]
    assert {h.uuid: before[h.uuid] for h in fleet}.items() <= processes.running().items()
    assert not list(tmp_path.rglob("*-sock"))


def test_host_whose_memory_was_saved_is_resumed_with_its_processes(
    yard: Yard, host: HostInfo
) -> None:
    before = processes_in(host)
    virsh(yard, "managedsave", host.uuid)
    with socket.create_server((host.address, 2376)):
        for check in (True, False):
            with pytest.raises(Conflict, match="port 2376 of"):
                yard.hosts.apply(SAVED, check=check)
    assert host.uuid in virsh(yard, "list", "--all", "--with-managed-save", "--uuid")
    (after,) = yard.hosts.apply(SAVED).objects
    assert after.ready
    assert after.drift == ()
    assert processes_in(after) == before
    assert (after.uuid, after.identity) == (host.uuid, host.identity)


def test_host_with_attachments_of_libvirt_is_deleted(yard: Yard, template: TemplateInfo) -> None:
    saved_host = yard.hosts.apply(SAVED).objects[0]
    virsh(yard, "snapshot-create-as", saved_host.uuid, "before")
    virsh(yard, "managedsave", saved_host.uuid)
    assert [a.verb for a in yard.hosts.delete(SAVED.name).plan.actions] == ["delete"]
    assert not yard.hosts.list(name="saved")
    assert saved_host.uuid not in virsh(yard, "list", "--all", "--uuid")


def test_clock_of_a_paused_host_is_set(yard: Yard, host: HostInfo) -> None:
    """As after a sleep of the hypervisor: the guest runs, and is behind."""
    assert ssh(host, "sudo date -s '400 seconds ago'").returncode == 0
    (behind,) = yard.hosts.list(name="saved")
    assert not behind.ready
    assert "s behind" in behind.drift[0]
    assert [a.verb for a in yard.hosts.apply(SAVED).plan.actions] == ["synchronize"]
    (after,) = yard.hosts.list(name="saved")
    assert (after.ready, after.drift) == (True, ())
    virsh(yard, "suspend", host.uuid)
    assert ssh_is_silent(host)
    assert [a.verb for a in yard.hosts.apply(SAVED).plan.actions] == ["start"]
    assert yard.hosts.list(name="saved")[0].drift == ()


def ssh_is_silent(host: HostInfo) -> bool:
    try:
        ssh(host, "true", timeout=4)
    except subprocess.TimeoutExpired:
        return True
    return False


def test_running_host_that_libvirt_reports_as_off_is_unchanged(
    yard: Yard, host: HostInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a daemon that knows nothing of it, as without a record of the session."""
    record, aside = WORK / "store" / "session.json", WORK / "store" / "session.aside"
    monkeypatch.setenv("XDG_RUNTIME_DIR", tempfile.mkdtemp())
    record.rename(aside)
    pid = processes.running()[host.uuid]
    try:
        with Yard(
            owner=yard.context.owner, storage=str(WORK / "store"), pki_dir=str(WORK / "pki")
        ) as stray:
            attempts: list[Callable[[], object]] = [
                partial(stray.hosts.apply, SAVED, check=True),
                partial(stray.hosts.apply, SAVED),
                partial(stray.hosts.delete, "saved"),
                stray.teardown,
            ]
            for attempt in attempts:
                with pytest.raises(
                    StockyardError,
                    match=r"QEMU process \d+ runs the host, although libvirt reports",
                ):
                    attempt()
    finally:
        aside.rename(record)
    assert processes.running()[host.uuid] == pid
    assert not yard.hosts.apply(SAVED).changed
