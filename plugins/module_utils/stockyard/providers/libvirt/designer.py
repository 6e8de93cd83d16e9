# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy for the domains of templates and hosts. The shape of the XML is in :mod:`.xml`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...guest.agent.wire import PORT_NAME
from ...hypervisor.records import encode
from ...model.host import HostRecord
from ...model.observation import Record
from ...model.template import Hardware, TemplateRecord
from ...planning.resize import SLOTS
from . import network
from .images import Image
from .machine import Machine
from .xml.devices import Channel, Console, Controller, Disk, Random
from .xml.domain import Domain

# Memory that is plugged in goes online at once, as movable, so that it can be unplugged. By default
# Debian 13's kernel puts it online as normal memory.
CMDLINE = (
    "rw console=ttyS0 net.ifnames=0 loglevel=5 systemd.show_status=error"
    " memhp_default_state=online_movable"
)


def template(record: TemplateRecord, machine: Machine, image: Image, folder: Path) -> Domain:
    """Return the domain of a template that boots: its RAM is a file that receives all writes."""
    base = _domain(record, record.hardware, machine, image, folder)
    return replace(
        base, arguments=base.arguments + _ram(folder / "ram", record.hardware, share=True)
    )


def frozen_domain(record: TemplateRecord, machine: Machine, image: Image, folder: Path) -> Domain:
    """Return the domain of a frozen template, whose files an accidental start cannot change."""
    base = _domain(record, record.hardware, machine, image, folder)
    return replace(base, devices=(replace(_disk(folder), readonly=True), *base.devices[1:]))


def boot_domain(
    record: HostRecord, hardware: Hardware, machine: Machine, image: Image, folder: Path
) -> Domain:
    """Return the domain of a host as it is defined: it boots from its own disk."""
    return _domain(record, hardware, machine, image, folder)


def restore_domain(
    record: HostRecord, hardware: Hardware, machine: Machine, image: Image, folder: Path, ram: Path
) -> Domain:
    """Return the domain of the same host as a fork.

    It waits for the template's device state and maps the template's RAM privately.
    """
    base = boot_domain(record, hardware, machine, image, folder)
    return replace(
        base, arguments=base.arguments + _ram(ram, hardware, share=False) + ("-incoming", "defer")
    )


def _domain(
    record: Record, hardware: Hardware, machine: Machine, image: Image, folder: Path
) -> Domain:
    interfaces, arguments = network.attach(record)
    arguments += _slots(record, hardware)
    return Domain(
        type=machine.type,
        name=record.domain,
        uuid=record.uuid,
        record=encode(record),
        memory_mib=hardware.memory_mib,
        vcpus=machine.vcpus,
        max_vcpus=hardware.max_vcpus,
        machine=machine.machine,
        kernel=str(image.kernel),
        initrd=str(image.initrd),
        cmdline=f"root={image.root} {CMDLINE}{_used_at_boot(hardware, machine)}",
        cpu_mode=machine.cpu_mode,
        devices=(
            _disk(folder),
            Channel(PORT_NAME),
            Channel("org.qemu.guest_agent.0"),
            Console(str(folder / "console.log")),
            Controller("usb", 0, "none"),
            # A root port for each device that libvirt places itself (disk, serial bus, generator),
            # and the spare ports.
            *(
                Controller("pci", index, "pcie-root-port")
                for index in range(1, 4 + hardware.spare_ports)
            ),
            Random(),
            *interfaces,
        ),
        arguments=arguments,
    )


def _used_at_boot(hardware: Hardware, machine: Machine) -> str:
    """Return the kernel's option for a machine that has more processors than its guest must use."""
    return f" maxcpus={hardware.vcpus}" if machine.vcpus > hardware.vcpus else ""


def _disk(folder: Path) -> Disk:
    return Disk(str(folder / "disk.qcow2"), "vda")


def _slots(record: Record, hardware: Hardware) -> tuple[str, ...]:
    """Return the arguments for memory that is plugged in later.

    libvirt cannot declare it for a machine without NUMA nodes; QEMU merges both ``-m`` options.
    """
    max_memory_mib = (
        record.max_size.memory_mib if isinstance(record, HostRecord) else record.max_memory_mib
    )
    return (
        ("-m", f"slots={SLOTS},maxmem={max_memory_mib}M")
        if max_memory_mib > hardware.memory_mib
        else ()
    )


def _ram(path: Path, hardware: Hardware, *, share: bool) -> tuple[str, ...]:
    # libvirt cannot declare a private mapping of a given file, so QEMU gets the option itself; its
    # later -machine option overrides the earlier option.
    share_option = "on" if share else "off"
    # QEMU reads a comma in a value only if it is written twice.
    escaped_path = str(path).replace(",", ",,")
    backend = (
        f"memory-backend-file,id=ram0,size={hardware.memory_mib}M,mem-path={escaped_path},"
        f"share={share_option}"
    )
    return ("-object", backend, "-machine", "memory-backend=ram0")
