# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Giving a running machine more or less: processors through libvirt, memory as DIMMs through QEMU's
monitor.

libvirt plugs memory only into machines with NUMA nodes, which excludes RAM in a file of our own.
What QEMU is told here is forgotten when the machine ends: who starts it plugs it in again.
"""

from __future__ import annotations

from typing import Any

from ...clock import Deadline
from ...errors import HypervisorError
from ...model.host import HostRecord
from ...model.size import Size
from ...planning.resize import step
from .faults import translated
from .monitor import Monitor

DIMM, BACKEND = "grown-", "grown-ram-"
POLL = 0.2
# Seconds for a guest to give something back.
PATIENCE = 60.0
UNWILLING = "the guest does not give it back"


def resize(domain: Any, record: HostRecord, size: Size, deadline: Deadline) -> None:
    """Bring a running machine to a size. What it has already is left as it is.

    :raises HypervisorError: when the guest keeps what it is to give back.
    """
    _Processors(domain, record).have(size.vcpus, deadline)
    stride = step(record.frozen.memory_mib, record.most.memory_mib)
    if stride:
        count = (size.memory_mib - record.frozen.memory_mib) // stride
        _Dimms(Monitor(domain, record.title), record, stride).have(count, deadline)


class _Processors:
    """The processors of one machine.

    Under emulation none is ever taken out: QEMU 7.2 tells libvirt nothing of it, and ends with a
    memory fault when memory is unplugged after that. There the guest's own agent switches off what
    is too much, and it stays plugged in.
    """

    def __init__(self, domain: Any, record: HostRecord) -> None:
        self.domain = domain
        self.monitor = Monitor(domain, record.title)
        self.record = record

    def have(self, count: int, deadline: Deadline) -> None:
        """Bring their number to this; the next boot has as many."""
        import libvirt

        emulated = not self.monitor.command("query-kvm")["enabled"]
        live = libvirt.VIR_DOMAIN_AFFECT_LIVE
        with translated("change the number of processors", self.record.title):
            there = self.domain.vcpusFlags(live)
            if there < count:
                self.domain.setVcpusFlags(count, live)
            if emulated:
                if there != count or not self._boots():
                    self._bring_to(count, libvirt.VIR_DOMAIN_VCPU_GUEST, deadline.within(PATIENCE))
            elif there > count:
                self._bring_to(count, live, deadline.within(PATIENCE))
            self.domain.setVcpusFlags(count, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    def _boots(self) -> bool:
        """Whether the guest's agent is not there: a guest that boots uses all that is
        plugged in.
        """
        import libvirt

        try:
            self.domain.vcpusFlags(libvirt.VIR_DOMAIN_VCPU_GUEST)
        except libvirt.libvirtError:
            return True
        return False

    def _bring_to(self, count: int, kind: int, patience: Deadline) -> None:
        """Have so many of those that the guest uses, or of those that are plugged in."""
        import libvirt

        while True:
            try:
                if self.domain.vcpusFlags(kind) == count:
                    return
                self.domain.setVcpusFlags(count, kind)
            except libvirt.libvirtError:
                # A busy guest answers late; what was just plugged in comes late, and the agent
                # after a boot.
                if patience.passed():
                    raise
            if patience.passed():
                raise _kept(self.record, "processors")
            patience.pause(POLL)


class _Dimms:
    """The memory that was plugged into one machine, in modules of one size."""

    def __init__(self, monitor: Monitor, record: HostRecord, stride: int) -> None:
        self.monitor = monitor
        self.record = record
        self.stride = stride

    def have(self, count: int, deadline: Deadline) -> None:
        """Plug in what is missing, take out what is too much, the last one first."""
        there = self._there()
        for number in sorted(there, reverse=True):
            if number >= count:
                self._take_out(number, deadline.within(PATIENCE))
        for number in range(count):
            if number not in there:
                self._plug_in(number)

    def _there(self) -> set[int]:
        found = self.monitor.command("query-memory-devices") or []
        names = [str(one.get("data", {}).get("id", "")) for one in found]
        return {int(name.removeprefix(DIMM)) for name in names if name.startswith(DIMM)}

    def _plug_in(self, number: int) -> None:
        backend = f"{BACKEND}{number}"
        size = self.stride << 20
        about: dict[str, Any] = {"qom-type": "memory-backend-ram", "id": backend, "size": size}
        self.monitor.command("object-add", **about)
        try:
            self.monitor.command(
                "device_add", driver="pc-dimm", id=f"{DIMM}{number}", memdev=backend
            )
        except HypervisorError:
            self.monitor.command("object-del", id=backend)
            raise

    def _take_out(self, number: int, patience: Deadline) -> None:
        self.monitor.command("device_del", id=f"{DIMM}{number}")
        while number in self._there():
            if patience.passed():
                raise _kept(self.record, f"{self.stride} MiB of memory")
            patience.pause(POLL)
        self.monitor.command("object-del", id=f"{BACKEND}{number}")


def _kept(record: HostRecord, what: str) -> HypervisorError:
    return HypervisorError(
        f"{what} could not be taken away.",
        name=record.title,
        cause=UNWILLING,
        remedy="end what uses it and run again, or replace the host",
    )
