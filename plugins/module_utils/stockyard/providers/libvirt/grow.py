# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resize of a running machine: processors through libvirt, memory as DIMMs through QEMU's monitor.

libvirt plugs memory only into machines with NUMA nodes, which excludes RAM in a file of
stockyard's. Memory that is plugged in through the monitor is lost when the machine ends: the next
start must plug it in again.
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
# Seconds for a guest to return a resource.
PATIENCE = 60.0
UNWILLING = "the guest does not return the resource"


def modules(record: HostRecord, size: Size) -> tuple[int, int]:
    """Return the number of memory modules of a machine of a size, and the MiB of each."""
    stride = step(record.template_size.memory_mib, record.max_size.memory_mib)
    count = (size.memory_mib - record.template_size.memory_mib) // stride if stride else 0
    return count, stride


def plugged_modules(monitor: Monitor) -> set[str]:
    """Return the IDs of the memory modules of a running machine."""
    devices = monitor.command("query-memory-devices") or []
    return {str(device.get("data", {}).get("id", "")) for device in devices}


def resize(domain: Any, record: HostRecord, size: Size, deadline: Deadline) -> None:
    """Resize a running machine. Processors and memory that it has already are left as they are.

    :raises HypervisorError: if the guest does not return resources that it must return.
    """
    # Memory first: processors may have to wait until the guest has booted.
    count, stride = modules(record, size)
    if stride:
        _Dimms(Monitor(domain, record.title), record, stride).set_count(count, deadline)
    _Processors(domain, record).set_count(size.vcpus, deadline)


class _Processors:
    """The processors of one machine.

    With KVM they are plugged in and unplugged. An emulated machine has all its processors from the
    start (:class:`.machine.Machine`), and the guest's own agent switches them on and off. QEMU 7.2
    cannot unplug emulated processors either: it reports nothing about it to libvirt, and crashes
    with a memory fault when memory is unplugged after that.
    """

    def __init__(self, domain: Any, record: HostRecord) -> None:
        self.domain = domain
        self.monitor = Monitor(domain, record.title)
        self.record = record

    def set_count(self, count: int, deadline: Deadline) -> None:
        """Set the number of processors."""
        is_emulated = not self.monitor.command("query-kvm")["enabled"]
        with translated("change the number of processors", self.record.title):
            if is_emulated:
                self._switch_on(count, deadline)
            else:
                self._plug_in(count, deadline)

    def _plug_in(self, count: int, deadline: Deadline) -> None:
        """Set the number of processors that are plugged in; the next boot has the same number."""
        import libvirt

        live_flag = libvirt.VIR_DOMAIN_AFFECT_LIVE
        current_count = self.domain.vcpusFlags(live_flag)
        if current_count < count:
            self.domain.setVcpusFlags(count, live_flag)
        elif current_count > count:
            self._bring_to(count, live_flag, deadline.within(PATIENCE))
        self.domain.setVcpusFlags(count, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    def _switch_on(self, count: int, deadline: Deadline) -> None:
        """Set the number of processors that the guest uses.

        A guest that boots uses those of its template, until its agent answers.
        """
        import libvirt

        # Machines of earlier templates lack some; Debian 12 in them accepts more.
        if self.domain.vcpusFlags(libvirt.VIR_DOMAIN_AFFECT_LIVE) < count:
            self.domain.setVcpusFlags(count, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        self._wait_for_agent(deadline)
        self._bring_to(count, libvirt.VIR_DOMAIN_VCPU_GUEST, deadline.within(PATIENCE))

    def _wait_for_agent(self, deadline: Deadline) -> None:
        import libvirt

        while True:
            try:
                self.domain.vcpusFlags(libvirt.VIR_DOMAIN_VCPU_GUEST)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
                    raise
                if deadline.passed():
                    raise
                deadline.pause(POLL)
            else:
                return

    def _bring_to(self, count: int, kind: int, patience: Deadline) -> None:
        """Set the number of processors that the guest uses, or that are plugged in.

        :param kind: libvirt's flag for one of them.
        """
        import libvirt

        while True:
            try:
                if self.domain.vcpusFlags(kind) == count:
                    return
                self.domain.setVcpusFlags(count, kind)
            except libvirt.libvirtError:
                # A busy guest answers late, and a processor that was just plugged in appears late.
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

    def set_count(self, count: int, deadline: Deadline) -> None:
        """Plug in missing modules, and unplug excess modules, the last one first."""
        plugged_numbers = self._plugged_numbers()
        for number in sorted(plugged_numbers, reverse=True):
            if number >= count:
                self._take_out(number, deadline.within(PATIENCE))
        for number in range(count):
            if number not in plugged_numbers:
                self._plug_in(number)

    def _plugged_numbers(self) -> set[int]:
        names = plugged_modules(self.monitor)
        return {int(name.removeprefix(DIMM)) for name in names if name.startswith(DIMM)}

    def _plug_in(self, number: int) -> None:
        backend = f"{BACKEND}{number}"
        size = self.stride << 20
        properties: dict[str, Any] = {"qom-type": "memory-backend-ram", "id": backend, "size": size}
        self.monitor.command("object-add", **properties)
        try:
            self.monitor.command(
                "device_add", driver="pc-dimm", id=f"{DIMM}{number}", memdev=backend
            )
        except HypervisorError:
            self.monitor.command("object-del", id=backend)
            raise

    def _take_out(self, number: int, patience: Deadline) -> None:
        self.monitor.command("device_del", id=f"{DIMM}{number}")
        while number in self._plugged_numbers():
            if patience.passed():
                raise _kept(self.record, f"{self.stride} MiB of memory")
            patience.pause(POLL)
        self.monitor.command("object-del", id=f"{BACKEND}{number}")


def _kept(record: HostRecord, resource: str) -> HypervisorError:
    return HypervisorError(
        f"{resource} could not be removed.",
        name=record.title,
        cause=UNWILLING,
        remedy="end the processes that use the resource and run again, or replace the host",
    )
