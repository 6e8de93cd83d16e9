# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy for the domains of templates and hosts. The shape of the XML is in :mod:`.xml`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import Enum
from pathlib import Path

from ...guest.agent.wire import PORT_NAME
from ...hypervisor.records import encode
from ...model.branch import BranchRecord, BranchVolume
from ...model.host import HostRecord
from ...model.observation import Record
from ...model.template import Hardware, TemplateRecord
from ...planning.resize import SLOTS
from . import disk_layers, network
from .grow import BACKEND, DIMM
from .images import Image
from .machine import Machine
from .xml.devices import Channel, Console, Controller, Disk, PanicNotifier, Random
from .xml.domain import Device, Domain
from .xml.element import BRANCH_NS

# QEMU's name of a machine's RAM; memory streams contain it.
RAM = "ram0"
USE_RAM = ("-machine", f"memory-backend={RAM}")
INCOMING = ("-incoming", "defer")
# The disk of a twin.
SCRATCH = "scratch.qcow2"
# Memory that is plugged in goes online at once, as movable, so that it can be unplugged. By default
# Debian 13's kernel puts it online as normal memory.
CMDLINE = (
    "rw console=ttyS0 net.ifnames=0 loglevel=5 systemd.show_status=error"
    " memhp_default_state=online_movable"
)
# Feature 141 of the kernel (X86_FEATURE_CX16 in its cpufeatures.h) is the instruction cmpxchg16b.
# QEMU emulated it before version 8.0 without computing the flags first: an interrupt right after it
# saved random flags, and the kernel ended with a double fault. Programs still have the instruction.
EMULATED = " clearcpuid=141"
# The kernel zeroes memory when it is freed, instead of when it is allocated: no key or data of a
# detached volume stays in free memory, of which a branch would get a copy.
ZEROING = " init_on_free=1"


class Mapping(Enum):
    """How QEMU maps a file of RAM: the options of its memory backend."""

    # The file receives all writes.
    SHARED = "share=on"
    # QEMU before 8.2 opens the file for writing even if it writes to copies only.
    PRIVATE = "share=off"
    READ_ONLY_FILE = "share=off,readonly=on,rom=off"


def private_mapping(read_only: bool) -> Mapping:
    """Return the mapping of a frozen file of RAM.

    :param read_only: whether QEMU maps a read-only file.
    """
    return Mapping.READ_ONLY_FILE if read_only else Mapping.PRIVATE


def template(record: TemplateRecord, machine: Machine, image: Image, folder: Path) -> Domain:
    """Return the domain of a template that boots: its RAM is a file that receives all writes."""
    base = _domain(record, record.hardware, machine, image, folder)
    return replace(
        base, arguments=base.arguments + _ram(folder / "ram", record.hardware, Mapping.SHARED)
    )


def derived_template(
    record: TemplateRecord, machine: Machine, image: Image, folder: Path
) -> Domain:
    """Return the domain of a template that is derived from a frozen one.

    It waits for the device state of that template. Its RAM file, which receives all writes, is a
    copy of that template's.
    """
    base = template(record, machine, image, folder)
    return replace(base, arguments=(*base.arguments, "-incoming", "defer"))


def host_template(
    record: TemplateRecord,
    machine: Machine,
    image: Image,
    folder: Path,
    volume_disks: Iterable[Disk] = (),
) -> Domain:
    """Return the domain of a template that is created from a host.

    It waits for the device state of a branch. Blocks that it discards leave its disk.

    :param volume_disks: the disks in place of the host's volumes.
    """
    base = derived_template(record, machine, image, folder)
    disk = replace(_disk(folder), discard=True)
    return replace(base, devices=(disk, *base.devices[1:], *volume_disks))


def frozen_domain(record: TemplateRecord, machine: Machine, image: Image, folder: Path) -> Domain:
    """Return the domain of a frozen template, whose files an accidental start cannot change."""
    base = _domain(record, record.hardware, machine, image, folder)
    return replace(base, devices=(replace(_disk(folder), readonly=True), *base.devices[1:]))


def boot_domain(
    record: HostRecord, hardware: Hardware, machine: Machine, image: Image, folder: Path
) -> Domain:
    """Return the domain of a host as it is defined: it boots from its own disk.

    Its RAM has the name that the RAM of forks has, so that a branch can take its state.
    """
    base = _domain(record, hardware, machine, image, folder)
    backend = ("-object", f"memory-backend-ram,id={RAM},size={hardware.memory_mib}M")
    return replace(base, arguments=(*base.arguments, *backend, *USE_RAM))


def restore_domain(
    record: HostRecord,
    hardware: Hardware,
    machine: Machine,
    image: Image,
    folder: Path,
    ram: Path,
    mapping: Mapping = Mapping.PRIVATE,
) -> Domain:
    """Return the domain of the same host as a fork.

    It waits for the template's device state and maps the template's RAM privately.
    """
    base = _domain(record, hardware, machine, image, folder)
    return replace(base, arguments=base.arguments + _ram(ram, hardware, mapping) + INCOMING)


def scratch(volume: BranchVolume) -> str:
    """Return the name of the disk of a twin in place of a volume."""
    return f"scratch-{volume.serial}.qcow2"


def twin_domain(record: BranchRecord, machine: Machine, image: Image, folder: Path) -> Domain:
    """Return the domain of a twin, which receives the memory and device state of a running host.

    Its RAM is in files, which become the branch. Its disk is a scratch file: device state contains
    no content of disks, and a twin never runs.
    """
    base = _branch(record, machine, image, folder, Disk(str(folder / SCRATCH), "vda"))
    volume_disks = [
        Disk(str(folder / scratch(volume)), target, volume.serial, discard=True, port=volume.port)
        for volume, target in zip(record.volumes, disk_layers.targets(), strict=False)
    ]
    arguments = (
        *base.arguments,
        *_ram(folder / "ram", record.hardware, Mapping.SHARED),
        *_modules(record, folder, Mapping.SHARED),
        *INCOMING,
    )
    return replace(
        base,
        devices=(*base.devices, *volume_disks),
        arguments=arguments,
        added_vcpus=record.added_vcpus,
    )


def branch_domain(record: BranchRecord, machine: Machine, image: Image, folder: Path) -> Domain:
    """Return the domain of a branch as it is defined, whose files an accidental start cannot
    change.
    """
    return _branch(record, machine, image, folder, replace(_disk(folder), readonly=True))


def child_domain(
    record: HostRecord,
    branch: BranchRecord,
    machine: Machine,
    image: Image,
    folder: Path,
    frozen_folder: Path,
    volume_disks: Iterable[Disk] = (),
    mapping: Mapping = Mapping.PRIVATE,
) -> Domain:
    """Return the domain of a host that is forked from a branch.

    :param frozen_folder: the directory of the branch.
    :param volume_disks: the disks in place of the parent's volumes.
    """
    base = _domain(record, branch.hardware, machine, image, folder)
    arguments = (
        *base.arguments,
        *_ram(frozen_folder / "ram", branch.hardware, mapping),
        *_modules(branch, frozen_folder, mapping),
        *INCOMING,
    )
    return replace(
        base,
        devices=(*base.devices, *volume_disks),
        arguments=arguments,
        added_vcpus=branch.added_vcpus,
    )


def _branch(
    record: BranchRecord, machine: Machine, image: Image, folder: Path, disk: Disk
) -> Domain:
    connection = ((), network.card(network.TWIN, record.mac))
    slots = _slots(record.max_memory_mib, record.hardware)
    base = _machine(record.domain, record.uuid, record.hardware, machine, image, folder, connection)
    return replace(
        base,
        record=encode(record),
        namespace=BRANCH_NS,
        devices=(disk, *base.devices[1:]),
        arguments=base.arguments + slots,
    )


def _domain(
    record: Record, hardware: Hardware, machine: Machine, image: Image, folder: Path
) -> Domain:
    max_memory_mib = (
        record.max_size.memory_mib if isinstance(record, HostRecord) else record.max_memory_mib
    )
    base = _machine(
        record.domain, record.uuid, hardware, machine, image, folder, network.attach(record)
    )
    return replace(
        base,
        record=encode(record),
        cmdline=base.cmdline + (ZEROING if record.encrypted else ""),
        arguments=base.arguments + _slots(max_memory_mib, hardware),
    )


def _machine(
    name: str,
    uuid: str,
    hardware: Hardware,
    machine: Machine,
    image: Image,
    folder: Path,
    connection: tuple[tuple[Device, ...], tuple[str, ...]],
) -> Domain:
    """Return the devices that templates, hosts and branches have in common, without a record."""
    interfaces, arguments = connection
    return Domain(
        type=machine.type,
        name=name,
        uuid=uuid,
        record="",
        memory_mib=hardware.memory_mib,
        vcpus=machine.vcpus,
        max_vcpus=hardware.max_vcpus,
        machine=machine.machine,
        kernel=str(image.kernel),
        initrd=str(image.initrd),
        cmdline=f"root={image.root} {CMDLINE}{_boot_options(hardware, machine)}",
        cpu_mode=machine.cpu_mode,
        cpu_model=machine.cpu_model,
        disabled_features=machine.disabled_features,
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
            *([PanicNotifier()] if machine.reports_panic else []),
            *interfaces,
        ),
        arguments=arguments + (network.UPLINK_CARD if machine.has_uplink else ()),
    )


def _boot_options(hardware: Hardware, machine: Machine) -> str:
    """Return the kernel's options for an emulated machine, and for one that has more processors
    than its guest must use.
    """
    used = f" maxcpus={hardware.vcpus}" if machine.vcpus > hardware.vcpus else ""
    return used if machine.type == "kvm" else EMULATED + used


def _disk(folder: Path) -> Disk:
    return Disk(str(folder / "disk.qcow2"), "vda")


def _slots(max_memory_mib: int, hardware: Hardware) -> tuple[str, ...]:
    """Return the arguments for memory that is plugged in later.

    libvirt cannot declare it for a machine without NUMA nodes; QEMU merges both ``-m`` options.
    """
    return (
        ("-m", f"slots={SLOTS},maxmem={max_memory_mib}M")
        if max_memory_mib > hardware.memory_mib
        else ()
    )


def _ram(path: Path, hardware: Hardware, mapping: Mapping) -> tuple[str, ...]:
    # libvirt cannot declare a private mapping of a given file, so QEMU gets the option itself; its
    # later -machine option overrides the earlier option.
    return ("-object", _file_backend(RAM, hardware.memory_mib, path, mapping), *USE_RAM)


def _modules(branch: BranchRecord, folder: Path, mapping: Mapping) -> tuple[str, ...]:
    """Return the arguments for the memory modules of a branch, at their places in the parent."""
    arguments: list[str] = []
    for module in branch.modules:
        backend = f"{BACKEND}{module.number}"
        file = _file_backend(backend, module.size_mib, folder / f"ram-{module.number}", mapping)
        device = (
            f"pc-dimm,id={DIMM}{module.number},memdev={backend},addr={module.address},"
            f"slot={module.slot}"
        )
        arguments += ["-object", file, "-device", device]
    return tuple(arguments)


def _file_backend(name: str, size_mib: int, path: Path, mapping: Mapping) -> str:
    # QEMU reads a comma in a value only if it is written twice.
    escaped_path = str(path).replace(",", ",,")
    return f"memory-backend-file,id={name},size={size_mib}M,mem-path={escaped_path},{mapping.value}"
