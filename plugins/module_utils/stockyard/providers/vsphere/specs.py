# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's data objects, built from plain values. The callers decide the values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...model.pool import PoolSpec
from . import api

# The mode of disks that snapshots and clones of their machine leave out.
INDEPENDENT = "independent_persistent"


def options(values: Mapping[str, str]) -> list[Any]:
    """Return values as entries of extraConfig."""
    return [api.vim().option.OptionValue(key=key, value=value) for key, value in values.items()]


def reconfigure(values: Mapping[str, str], change: str = "") -> Any:
    """Return the specification that writes values.

    :param change: the version that the machine must still have.
    """
    spec = api.vim().vm.ConfigSpec(extraConfig=options(values))
    if change:
        spec.changeVersion = change
    return spec


def nics(devices: Iterable[Any]) -> list[Any]:
    """Return the network cards among a machine's devices."""
    return [
        device for device in devices if isinstance(device, api.vim().vm.device.VirtualEthernetCard)
    ]


def chain_length(devices: Iterable[Any]) -> int:
    """Return the number of files under the disk that has the most."""
    longest = 0
    for device in devices:
        length, backing = 0, getattr(device, "backing", None)
        while isinstance(device, api.vim().vm.device.VirtualDisk) and backing is not None:
            length, backing = length + 1, getattr(backing, "parent", None)
        longest = max(longest, length)
    return longest


def link(
    nic: Any, connected: bool, *, at_start: bool = True, mac: str = "", backing: Any = None
) -> Any:
    """Return a change of a network card: link up or down, now and at the next start.

    The guest cannot change the link.

    :param at_start: whether a link that is up now comes up at the next start too.
    :param mac: a new address; the card's own address if empty.
    :param backing: the network that the card is connected to; unchanged if omitted.
    """
    device = api.vim().vm.device
    new_card = type(nic)(
        key=nic.key,
        controllerKey=nic.controllerKey,
        unitNumber=nic.unitNumber,
        backing=backing or nic.backing,
    )
    new_card.addressType = "manual" if mac else nic.addressType
    new_card.macAddress = mac or nic.macAddress
    new_card.connectable = device.VirtualDevice.ConnectInfo(
        connected=connected,
        startConnected=connected and at_start,
        allowGuestControl=False,
        migrateConnect="connect" if connected else "disconnect",
    )
    return device.VirtualDeviceSpec(operation="edit", device=new_card)


def network_backing(network: Any, values: Mapping[str, Any]) -> Any:
    """Return the backing that connects a network card to a port group.

    :param values: properties of the port group: ``name``, and for a distributed one ``key`` and the
        switch's ``uuid``.
    """
    card = api.vim().vm.device.VirtualEthernetCard
    if not isinstance(network, api.vim().dvs.DistributedVirtualPortgroup):
        return card.NetworkBackingInfo(deviceName=values["name"], network=network)
    port = api.vim().dvs.PortConnection(portgroupKey=values["key"], switchUuid=values["uuid"])
    return card.DistributedVirtualPortBackingInfo(port=port)


def location(folder: Any, pool: Any, datastore: Any, changes: list[Any], *, move: str = "") -> Any:
    """Return the location of a clone, and the changes of its devices.

    :param move: how disks are copied, as in ``createNewChildDiskBacking``.
    """
    spec = api.vim().vm.RelocateSpec(folder=folder, pool=pool, deviceChange=changes)
    if datastore is not None:
        spec.datastore = datastore
    if move:
        spec.diskMoveType = move
    return spec


def instant_clone(name: str, uuid: str, relocate_spec: Any, values: Mapping[str, str]) -> Any:
    """Return the specification of a running copy of a running machine."""
    return api.vim().vm.InstantCloneSpec(
        name=name, location=relocate_spec, config=options(values), biosUuid=uuid
    )


def cold_clone(relocate_spec: Any, config: Any, snapshot: Any = None) -> Any:
    """Return the specification of a copy that is off."""
    spec = api.vim().vm.CloneSpec(
        location=relocate_spec, template=False, powerOn=False, config=config
    )
    if snapshot is not None:
        spec.snapshot = snapshot
    return spec


def hardware(uuid: str, values: Mapping[str, str], cpus: int = 0, memory_mib: int = 0) -> Any:
    """Return the own hardware of a cold clone; more can be added while the clone runs.

    :param cpus: number of vCPUs; the source's vCPUs and memory if 0.
    """
    spec = api.vim().vm.ConfigSpec(uuid=uuid, extraConfig=options(values))
    if cpus and memory_mib:
        spec.numCPUs, spec.memoryMB = cpus, memory_mib
    spec.cpuHotAddEnabled = spec.memoryHotAddEnabled = True
    return spec


def resource_pool(pool: PoolSpec) -> Any:
    """Return the configuration of a resource pool.

    A limit of -1 means no limit. CPU limits are in vCPUs, and only the quota enforces them.
    """
    cpu = allocation(pool.cpu_reservation_mhz, pool.expandable, -1, pool.cpu_shares)
    memory = allocation(
        pool.memory_reservation_mib, pool.expandable, pool.memory_mib or -1, pool.memory_shares
    )
    return api.vim().ResourceConfigSpec(cpuAllocation=cpu, memoryAllocation=memory)


def allocation(reservation: int, expandable: bool, limit: int, weight: int) -> Any:
    """Return the allocation of one resource.

    :param weight: number of shares; the usual number if 0.
    """
    shares = (
        api.vim().SharesInfo(level="custom", shares=weight)
        if weight
        else api.vim().SharesInfo(level="normal", shares=0)
    )
    return api.vim().ResourceAllocationInfo(
        reservation=reservation, expandableReservation=expandable, limit=limit, shares=shares
    )


def empty_machine(name: str, datastore: str, values: Mapping[str, str]) -> Any:
    """Return the specification of a machine without a disk, which is never started."""
    vm = api.vim().vm
    return vm.ConfigSpec(
        name=name,
        guestId="otherGuest64",
        numCPUs=1,
        memoryMB=4,
        extraConfig=options(values),
        files=vm.FileInfo(vmPathName=f"[{datastore}]"),
        annotation="stockyard: locks and reservations. Never started.",
    )


def thin_disk(capacity_kib: int) -> Any:
    """Return the specification of a disk with a file that grows with its contents."""
    return api.vim().VirtualDiskManager.FileBackedVirtualDiskSpec(
        diskType="thin", adapterType="lsiLogic", capacityKb=capacity_kib
    )


def disk_search(name: str) -> Any:
    """Return a search for one disk's file: the size of the file and the capacity of the disk."""
    browser = api.vim().host.DatastoreBrowser
    size = browser.VmDiskQuery.Details(
        diskType=False,
        capacityKb=True,
        hardwareVersion=False,
        controllerType=False,
        diskExtents=False,
        thin=False,
    )
    flags = browser.FileInfo.Details(
        fileType=True, fileSize=True, modification=False, fileOwner=False
    )
    return browser.SearchSpec(
        query=[browser.VmDiskQuery(details=size)], details=flags, matchPattern=[name]
    )


def known_disk(file: str, controller: int, unit: int) -> Any:
    """Return a change that attaches an existing disk to a machine.

    Snapshots and clones of the machine leave the disk out.
    """
    device = api.vim().vm.device
    backing = device.VirtualDisk.FlatVer2BackingInfo(fileName=file, diskMode=INDEPENDENT)
    disk = device.VirtualDisk(key=-1, controllerKey=controller, unitNumber=unit, backing=backing)
    return device.VirtualDeviceSpec(operation="add", device=disk)


def larger_disk(disk: Any, capacity_kib: int) -> Any:
    """Return a change that extends a disk of a machine."""
    disk.capacityInKB, disk.capacityInBytes = capacity_kib, capacity_kib << 10
    return api.vim().vm.device.VirtualDeviceSpec(operation="edit", device=disk)


def without(device: Any) -> Any:
    """Return a change that detaches a device from a machine; the device's files stay."""
    return api.vim().vm.device.VirtualDeviceSpec(operation="remove", device=device)


def devices(changes: list[Any], change: str) -> Any:
    """Return the specification of changes of a machine's devices.

    :param change: the version that the machine must still have.
    """
    return api.vim().vm.ConfigSpec(deviceChange=changes, changeVersion=change)
