# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that are started and removed while libvirt keeps something of them, over libvirt's own
test driver.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from stockyard.clock import Deadline
from stockyard.errors import Conflict, GuestBroken, HypervisorError, OperationRefused
from stockyard.model.host import HostSpec
from stockyard.providers.libvirt import boot, disks, network, processes
from stockyard.providers.libvirt.domains import Domains
from tests.helpers.samples import host_record

from .test_power import RECORD, XML

SNAPSHOT = "<domainsnapshot><name>before</name></domainsnapshot>"
UUID = RECORD.uuid
PORT_TAKEN = "Could not set up host forwarding rule 'tcp:127.77.1.2:2376-:2376'"
LOAD_FAILED = "qemu-system-x86_64: load of migration failed: Invalid argument"


class NoMonitor:
    """A monitor that takes every command."""

    def __init__(self, _domain: Any, _name: str) -> None: ...

    def set_link(self, _nic: str, _up: bool) -> None: ...


class Domain:
    """A domain whose start fails.

    :param failures: the words of libvirt for each start that fails.
    """

    def __init__(self, *failures: str, saved: bool = False) -> None:
        self.failures, self.saved, self.active, self.resumed = list(failures), saved, False, False

    def state(self) -> list[int]:
        active_state = libvirt.VIR_DOMAIN_RUNNING if self.resumed else libvirt.VIR_DOMAIN_PAUSED
        return [active_state if self.active else libvirt.VIR_DOMAIN_SHUTOFF, 0]

    def isActive(self) -> bool:  # noqa: N802  # libvirt's name
        return self.active

    def hasManagedSaveImage(self) -> bool:  # noqa: N802  # libvirt's name
        return self.saved

    def managedSaveGetXMLDesc(self, _flags: int) -> str:  # noqa: N802  # libvirt's name
        return "<domain/>"

    def managedSaveRemove(self) -> None:  # noqa: N802  # libvirt's name
        self.saved = False

    def maxMemory(self) -> int:  # noqa: N802  # libvirt's name
        return 1 << 20

    def createWithFlags(self, _flags: int) -> None:  # noqa: N802  # libvirt's name
        if self.failures:
            raise libvirt.libvirtError(self.failures.pop(0))
        self.active = True

    def resume(self) -> None:
        if self.resumed:
            raise libvirt.libvirtError("domain is already running")
        self.resumed, self.saved = True, False

    def shutdown(self) -> None:
        self.active = False


@pytest.fixture(autouse=True)
def no_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test driver has no QEMU."""
    monkeypatch.setattr(boot, "Monitor", NoMonitor)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk that nothing is wrong with."""
    if not shutil.which("qemu-img"):
        pytest.skip("qemu-img is not installed: run `make setup`")
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1M"], check=True)
    return path


def start(domain: Any, disk: Path) -> str:
    return boot.start(domain, RECORD, disk, Deadline(20))


@pytest.mark.parametrize("active", [False, True])
def test_machine_boots_with_its_link_cut(
    disk: Path, monkeypatch: pytest.MonkeyPatch, active: bool
) -> None:
    """Before the agent has the identity, no frame leaves the guest, also after a reboot."""
    steps: list[tuple[Any, ...]] = []

    class Watched(Domain):
        def createWithFlags(self, flags: int) -> None:  # noqa: N802  # libvirt's name
            steps.append(("create", flags))
            super().createWithFlags(flags)

        def resume(self) -> None:
            steps.append(("resume",))
            super().resume()

    class WatchedMonitor(NoMonitor):
        def set_link(self, nic: str, up: bool) -> None:
            steps.append(("link", nic, up))

    monkeypatch.setattr(boot, "Monitor", WatchedMonitor)
    domain = Watched()
    domain.active = active
    start(domain, disk)
    created = [] if active else [("create", libvirt.VIR_DOMAIN_START_PAUSED)]
    assert steps == [*created, ("link", network.nic(RECORD), False), ("resume",)]


def test_occupied_port_is_no_proof_of_a_lost_guest(disk: Path) -> None:
    with pytest.raises(HypervisorError, match="forwarding rule"):
        start(Domain(PORT_TAKEN), disk)


@pytest.mark.parametrize("content", [None, b"", b"ext4"])
def test_missing_or_overwritten_disk_proves_a_lost_guest(disk: Path, content: bytes | None) -> None:
    disk.unlink()
    if content is not None:
        disk.write_bytes(content)
    with pytest.raises(GuestBroken, match="its disk is"):
        start(Domain("Could not open it"), disk)


def test_disk_whose_tables_are_damaged_is_proof_of_a_lost_guest(disk: Path) -> None:
    with disk.open("r+b") as handle:
        handle.seek(0x30000)
        handle.write(b"\xff" * 512)
    with pytest.raises(GuestBroken, match="its disk is damaged"):
        start(Domain("Image is corrupt"), disk)


def test_unmounted_storage_is_no_proof_of_a_lost_guest(tmp_path: Path) -> None:
    assert disks.damage(tmp_path / "hosts" / UUID / "disk.qcow2", Deadline(5)) == ""


def test_saved_memory_that_loads_is_resumed_without_a_warning(disk: Path) -> None:
    domain = Domain(saved=True)
    assert start(domain, disk) == ""
    assert domain.resumed


def test_machine_that_runs_continues(disk: Path) -> None:
    """As after the death of a controller that started it."""
    domain = Domain(saved=True)
    assert [start(domain, disk) for _attempt in range(2)] == ["", ""]


def test_unloadable_saved_memory_is_discarded_with_a_warning(disk: Path) -> None:
    domain = Domain(LOAD_FAILED, saved=True)
    assert "saved memory (1024 MiB) could not be loaded" in start(domain, disk)
    assert domain.resumed
    assert not domain.saved


def test_saved_memory_is_kept_if_the_start_fails_for_another_reason(disk: Path) -> None:
    domain = Domain(PORT_TAKEN, saved=True)
    with pytest.raises(HypervisorError):
        start(domain, disk)
    assert domain.saved


def test_machine_with_saved_memory_is_resumed_before_the_shutdown(disk: Path) -> None:
    domain = Domain(saved=True)
    boot.stop(domain, RECORD, disk, Deadline(5))
    assert domain.resumed
    assert not domain.active


def test_machine_that_a_process_runs_is_not_started(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "running", lambda: {UUID: 4711})
    monkeypatch.setattr(processes, "ENDING", 0.1)
    domain = Domain()
    with pytest.raises(
        OperationRefused, match=r"QEMU process 4711 runs the host.*end process 4711"
    ):
        start(domain, disk)
    assert not domain.active


def test_machine_whose_disk_is_locked_is_not_started(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As QEMU locks it: a shared lock, of an open file and not of a process, on the byte of its
    right to write.
    """
    monkeypatch.setattr(processes, "ENDING", 0.1)
    domain = Domain()
    with disk.open("r+b") as handle:
        lock = struct.pack(processes.FLOCK, fcntl.F_RDLCK, os.SEEK_SET, processes.WRITER, 1, 0)
        fcntl.fcntl(handle, processes.F_OFD_GETLK + 1, lock)
        with pytest.raises(OperationRefused, match="a QEMU process writes to"):
            start(domain, disk)
    start(domain, disk)
    assert domain.active


@pytest.mark.parametrize("port", [2222, 2376, 8080])
def test_port_that_another_program_listens_on_is_named_before_the_start(
    disk: Path, port: int
) -> None:
    record = host_record(spec=HostSpec(ports=(8080,)))
    boot.check(record, disk)
    with (
        socket.create_server((record.address, port)),
        pytest.raises(Conflict, match=f"port {port} of {record.address}"),
    ):
        boot.check(record, disk)


@pytest.fixture
def defined() -> Iterator[tuple[Domains, Any]]:
    """A running domain of libvirt's test driver."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    connection = libvirt.open("test:///default")
    domain = connection.defineXML(XML)
    domain.create()
    yield Domains(connection), domain
    connection.close()


def test_domain_with_attachments_of_libvirt_is_undefined(defined: tuple[Domains, Any]) -> None:
    domains, domain = defined
    domain.snapshotCreateXML(SNAPSHOT)
    domain.managedSave(0)
    domains.undefine(domain, RECORD.title)
    assert RECORD.domain not in set(domains.names())
