# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines whose memory is saved, with a libvirt that is slow, refuses, or is at it already."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import libvirt
import pytest

from stockyard.clock import Deadline
from stockyard.errors import (
    DeadlineExceeded,
    HypervisorError,
    OperationRefused,
    OutOfSpace,
)
from stockyard.hypervisor.records import encode
from stockyard.model.host import HostSpec
from stockyard.model.size import Size
from stockyard.providers.libvirt import memory, processes, suspend
from stockyard.providers.libvirt.domains import Domains
from stockyard.providers.libvirt.xml.element import (
    QEMU_NS,
    RECORD_NS,
    element,
    parse,
    serialize,
)

from .test_power import RECORD, XML

SAVING = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE]
RUNNING = [libvirt.VIR_DOMAIN_RUNNING, 0]
GROWN = replace(
    RECORD,
    template_size=Size(1, 1024, 8),
    max_size=Size(4, 5120, 8),
    size=Size(1, 1536, 8),
)


class Domain:
    """A machine that libvirt can save.

    :param slow: whether the save ends only when it is aborted.
    :param states: the states before the present one.
    """

    def __init__(self, *, failure: str = "", slow: bool = False, active: bool = True) -> None:
        self.failure, self.slow, self.active, self.saved = failure, slow, active, False
        self.states: list[list[int]] = []
        self.aborted = threading.Event()

    def state(self) -> list[int]:
        return self.states.pop(0) if self.states else RUNNING

    def isActive(self) -> bool:  # noqa: N802  # libvirt's name
        return self.active

    def hasManagedSaveImage(self) -> bool:  # noqa: N802  # libvirt's name
        return self.saved

    def maxMemory(self) -> int:  # noqa: N802  # libvirt's name
        return 1 << 20

    def abortJob(self) -> None:  # noqa: N802  # libvirt's name
        self.aborted.set()

    def managedSave(self, _flags: int) -> None:  # noqa: N802  # libvirt's name
        if self.slow:
            self.aborted.wait(20)
            raise libvirt.libvirtError("operation aborted: canceled by client")
        if self.failure:
            raise libvirt.libvirtError(self.failure)
        self.active, self.saved = False, True


class Monitor:
    """QEMU's monitor of a machine.

    :param modules: the memory that was plugged in.
    """

    modules: ClassVar[list[Any]] = []
    calls: ClassVar[list[Any]] = []

    def __init__(self, _domain: Any, _name: str) -> None: ...

    def command(self, execute: str) -> list[Any]:
        assert execute == "query-memory-devices"
        return self.modules

    def leave_out_ram(self, state: bool) -> None:
        self.calls.append(state)


@pytest.fixture(autouse=True)
def monitor(monkeypatch: pytest.MonkeyPatch) -> type[Monitor]:
    """The monitor of every machine."""
    monkeypatch.setattr(suspend, "Monitor", Monitor)
    monkeypatch.setattr(Monitor, "modules", [])
    monkeypatch.setattr(Monitor, "calls", [])
    return Monitor


def save(domain: Any, seconds: float = 20.0) -> None:
    suspend.suspend(domain, RECORD, Deadline(seconds))


def test_memory_of_an_older_fork_is_part_of_its_save(monitor: type[Monitor]) -> None:
    domain = Domain()
    save(domain)
    assert domain.saved
    assert monitor.calls == [False]


def test_suspended_machine_stays_suspended(monitor: type[Monitor]) -> None:
    domain = Domain(active=False)
    domain.saved = True
    save(domain)
    assert not monitor.calls


def test_machine_that_is_off_is_not_suspended() -> None:
    with pytest.raises(OperationRefused, match="only a running host"):
        save(Domain(active=False))


def test_save_that_takes_too_long_is_aborted_and_the_machine_runs() -> None:
    domain = Domain(slow=True)
    with pytest.raises(DeadlineExceeded, match="the host continues to run"):
        save(domain, 0.2)
    assert domain.aborted.is_set()
    assert domain.active


def test_refused_save_is_an_error() -> None:
    with pytest.raises(HypervisorError, match="save the memory"):
        save(Domain(failure="Requested operation is not valid"))
    with pytest.raises(OutOfSpace):
        save(Domain(failure="write failed: No space left on device"))


def test_save_of_another_controller_is_waited_for() -> None:
    domain = Domain(active=False)
    domain.saved = True
    domain.states = [SAVING, SAVING]
    save(domain)
    assert not domain.states


def test_save_of_another_controller_is_waited_for_until_the_deadline() -> None:
    domain = Domain()
    domain.states = [SAVING] * 1000
    with pytest.raises(DeadlineExceeded, match="saving the memory"):
        save(domain, 0.3)


@pytest.mark.parametrize("ids", [["grown-0"], ["grown-0", "grown-1", "grown-2"], ["other"]])
def test_machine_with_other_memory_than_its_record_says_is_refused(
    ids: list[str], monitor: type[Monitor]
) -> None:
    monitor.modules = [{"type": "dimm", "data": {"id": name}} for name in ids]
    domain = Domain()
    with pytest.raises(OperationRefused, match="more or less memory"):
        suspend.suspend(domain, GROWN, Deadline(20))
    assert domain.active


def test_machine_with_the_memory_of_its_record_is_suspended(monitor: type[Monitor]) -> None:
    monitor.modules = [{"type": "dimm", "data": {"id": f"grown-{n}"}} for n in range(2)]
    domain = Domain()
    suspend.suspend(domain, GROWN, Deadline(20))
    assert domain.saved


PLUGGED = [
    "-object",
    "memory-backend-ram,id=grown-ram-0,size=256M",
    "-device",
    "pc-dimm,id=grown-0,memdev=grown-ram-0",
    "-object",
    "memory-backend-ram,id=grown-ram-1,size=256M",
    "-device",
    "pc-dimm,id=grown-1,memdev=grown-ram-1",
]
# As a child of a branch has it.
OWN = [
    "-object",
    "memory-backend-file,id=grown-ram-0,mem-path=/b/ram-0,share=off",
    "-device",
    "pc-dimm,id=grown-0,memdev=grown-ram-0,addr=4294967296,slot=0",
]
SURPLUS = ["-object", "memory-backend-ram,id=grown-ram-2", "-device", "pc-dimm,id=grown-2,memdev=x"]


class SavedDomain:
    """A machine with a saved image."""

    def __init__(self, arguments: list[str]) -> None:
        self.xml = serialize(
            element(
                "domain",
                element(
                    f"{{{QEMU_NS}}}commandline",
                    *(element(f"{{{QEMU_NS}}}arg", value=argument) for argument in arguments),
                ),
            )
        )
        self.changes = 0

    def managedSaveGetXMLDesc(self, _flags: int) -> str:  # noqa: N802  # libvirt's name
        return self.xml

    def managedSaveDefineXML(self, xml: str, _flags: int) -> None:  # noqa: N802  # libvirt's name
        self.xml, self.changes = xml, self.changes + 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["-S"], ["-S", *PLUGGED]),
        ([*PLUGGED, "-S"], [*PLUGGED, "-S"]),
        ([*SURPLUS, "-S", *PLUGGED], ["-S", *PLUGGED]),
        ([*OWN], [*OWN, *PLUGGED[4:]]),
    ],
)
def test_saved_definition_gets_the_memory_that_was_plugged_in(
    before: list[str], after: list[str]
) -> None:
    domain: Any = SavedDomain(before)
    suspend.complete_definition(domain, GROWN)
    assert [argument.get("value") for argument in parse(domain.xml)[0]] == after
    assert domain.changes == (before != after)


def test_saved_definition_gets_the_ports_that_were_published_later() -> None:
    domain: Any = SavedDomain(["-netdev", "user,id=net0,restrict=on,ipv6=off", "-S", *PLUGGED])
    suspend.complete_definition(domain, replace(GROWN, spec=HostSpec(ports=(8080,))))
    (netdev,) = [text for text in domain.xml.split('"') if text.startswith("user,id=net0")]
    assert f"hostfwd=tcp:{GROWN.address}:8080-:8080" in netdev
    assert domain.changes == 1


class OneDomain:
    """The domains of a libvirt with one machine."""

    def find(self, _record: Any) -> Domain:
        return Domain()


@pytest.mark.parametrize(("saved_mib", "need"), [(300, 316), (None, 1040)])
def test_memory_without_space_is_refused_with_the_numbers(
    saved_mib: int | None, need: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domains: Any = OneDomain()
    monkeypatch.setattr(processes, "running", lambda: {RECORD.uuid: 4711})
    monkeypatch.setattr(memory, "saved_mib", lambda _pid, _size: saved_mib)
    usage = SimpleNamespace(free=(need - 1) << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(OutOfSpace) as error:
        suspend.check(domains, [RECORD], tmp_path / "not" / "yet")
    assert error.value.cause == f"up to {need} MiB are needed, and {need - 1} MiB are free"
    usage.free += 1 << 20
    suspend.check(domains, [RECORD], tmp_path)


def test_save_contains_own_pages_and_those_of_the_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ram = tmp_path / "ram"
    ram.write_bytes(b"x" * (8 << 20))
    (tmp_path / "4711").mkdir()
    (tmp_path / "4711" / "smaps").write_text(
        f"7f0000000000-7f0040000000 rw-p 00000000 00:00 0 {ram}\n"
        "Size:            1048576 kB\nRss:               20480 kB\nAnonymous:         10240 kB\n"
    )
    monkeypatch.setattr(memory, "PROC", tmp_path)
    assert memory.saved_mib(4711, 1048576) == 19
    assert memory.saved_mib(4712, 1048576) is None


def test_domain_that_libvirt_saved_is_suspended() -> None:
    """Over libvirt's own test driver, as after ``virsh managedsave``."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    connection = libvirt.open("test:///default")
    domain = connection.defineXML(XML)
    domain.create()
    domains = Domains(connection)
    assert [state for _record, state in domains.read_all()[0]] == ["running"]
    domain.managedSave(0)
    assert [state for _record, state in domains.read_all()[0]] == ["suspended"]
    domain.managedSaveRemove()
    assert [state for _record, state in domains.read_all()[0]] == ["off"]
    connection.close()


def test_domain_whose_memory_is_being_saved_is_suspended() -> None:
    """As after the death of the controller that began it."""
    connection: Any = SimpleNamespace(
        getAllDomainStats=lambda _flags: [
            (RecordedDomain(), {"state.state": SAVING[0], "state.reason": SAVING[1]}),
            (RecordedDomain(), {"state.state": SAVING[0], "state.reason": 1}),
        ]
    )
    assert [s for _record, s in Domains(connection).read_all()[0]] == ["suspended", "paused"]


class RecordedDomain:
    """A domain with a record."""

    def name(self) -> str:
        return RECORD.domain

    def UUIDString(self) -> str:  # noqa: N802  # libvirt's name
        return RECORD.uuid

    def metadata(self, *_arguments: Any) -> str:
        return serialize(element(f"{{{RECORD_NS}}}record", text=encode(RECORD)))
