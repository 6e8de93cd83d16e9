# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's data objects, built out of plain values. Their shape is here, what they are to say is
not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...model.pool import PoolSpec
from . import api

# The mode of disks that no snapshot and no clone of their machine takes along.
INDEPENDENT = "independent_persistent"


def options(values: Mapping[str, str]) -> list[Any]:
    """Values for extraConfig."""
    return [api.vim().option.OptionValue(key=key, value=value) for key, value in values.items()]


def reconfigure(values: Mapping[str, str], change: str = "") -> Any:
    """Write values.

    :param change: the version that the machine has to have still.
    """
    spec = api.vim().vm.ConfigSpec(extraConfig=options(values))
    if change:
        spec.changeVersion = change
    return spec


def nics(devices: Iterable[Any]) -> list[Any]:
    """Of a machine's devices, its network cards."""
    return [d for d in devices if isinstance(d, api.vim().vm.device.VirtualEthernetCard)]


def chain_length(devices: Iterable[Any]) -> int:
    """How many files lie under the disk that has the most."""
    longest = 0
    for device in devices:
        length, backing = 0, getattr(device, "backing", None)
        while isinstance(device, api.vim().vm.device.VirtualDisk) and backing is not None:
            length, backing = length + 1, getattr(backing, "parent", None)
        longest = max(longest, length)
    return longest


def link(nic: Any, connected: bool, *, mac: str = "", backing: Any = None) -> Any:
    """A change of a network card: on or off the wire, now and at the next start, and out of the
    guest's hands.

    :param mac: a new address; the card's own stays without one.
    :param backing: what it is connected to; as it is without one.
    """
    device = api.vim().vm.device
    edited = type(nic)(
        key=nic.key,
        controllerKey=nic.controllerKey,
        unitNumber=nic.unitNumber,
        backing=backing or nic.backing,
    )
    edited.addressType = "manual" if mac else nic.addressType
    edited.macAddress = mac or nic.macAddress
    edited.connectable = device.VirtualDevice.ConnectInfo(
        connected=connected,
        startConnected=connected,
        allowGuestControl=False,
        migrateConnect="connect" if connected else "disconnect",
    )
    return device.VirtualDeviceSpec(operation="edit", device=edited)


def network_backing(network: Any, values: Mapping[str, Any]) -> Any:
    """What connects a card to a port group.

    :param values: properties of it: ``name``, and for a distributed one ``key`` and the switch's
        ``uuid``.
    """
    card = api.vim().vm.device.VirtualEthernetCard
    if not isinstance(network, api.vim().dvs.DistributedVirtualPortgroup):
        return card.NetworkBackingInfo(deviceName=values["name"], network=network)
    port = api.vim().dvs.PortConnection(portgroupKey=values["key"], switchUuid=values["uuid"])
    return card.DistributedVirtualPortBackingInfo(port=port)


def location(folder: Any, pool: Any, datastore: Any, changes: list[Any], *, move: str = "") -> Any:
    """Where a clone goes, and how its devices differ.

    :param move: what becomes of disks, as in ``createNewChildDiskBacking``.
    """
    spec = api.vim().vm.RelocateSpec(folder=folder, pool=pool, deviceChange=changes)
    if datastore is not None:
        spec.datastore = datastore
    if move:
        spec.diskMoveType = move
    return spec


def instant_clone(name: str, uuid: str, where: Any, values: Mapping[str, str]) -> Any:
    """A running copy of a running machine."""
    return api.vim().vm.InstantCloneSpec(
        name=name, location=where, config=options(values), biosUuid=uuid
    )


def cold_clone(where: Any, config: Any, snapshot: Any = None) -> Any:
    """A copy that is off."""
    spec = api.vim().vm.CloneSpec(location=where, template=False, powerOn=False, config=config)
    if snapshot is not None:
        spec.snapshot = snapshot
    return spec


def hardware(uuid: str, values: Mapping[str, str], cpus: int = 0, memory_mib: int = 0) -> Any:
    """What a cold copy has of its own; more can be added to it while it runs.

    :param cpus: the source's when 0, and so is its memory.
    """
    spec = api.vim().vm.ConfigSpec(uuid=uuid, extraConfig=options(values))
    if cpus and memory_mib:
        spec.numCPUs, spec.memoryMB = cpus, memory_mib
    spec.cpuHotAddEnabled = spec.memoryHotAddEnabled = True
    return spec


def resource_pool(pool: PoolSpec) -> Any:
    """What a resource pool is to be like. A limit of -1 is none; CPU limits are admission's alone,
    in vCPUs.
    """
    cpu = allocation(pool.cpu_reservation_mhz, pool.expandable, -1, pool.cpu_shares)
    memory = allocation(
        pool.memory_reservation_mib, pool.expandable, pool.memory_mib or -1, pool.memory_shares
    )
    return api.vim().ResourceConfigSpec(cpuAllocation=cpu, memoryAllocation=memory)


def allocation(reservation: int, expandable: bool, limit: int, weight: int) -> Any:
    """How much there is of one resource.

    :param weight: shares; the usual number when 0.
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
    """A machine without a disk that is never started."""
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
    """A disk of a file that grows with what is on it."""
    return api.vim().VirtualDiskManager.FileBackedVirtualDiskSpec(
        diskType="thin", adapterType="lsiLogic", capacityKb=capacity_kib
    )


def disk_search(name: str) -> Any:
    """A look for one disk's file: what it takes, and how large the disk is."""
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
    """A disk that is there already, put into a machine, out of the reach of its snapshots and
    clones.
    """
    device = api.vim().vm.device
    backing = device.VirtualDisk.FlatVer2BackingInfo(fileName=file, diskMode=INDEPENDENT)
    disk = device.VirtualDisk(key=-1, controllerKey=controller, unitNumber=unit, backing=backing)
    return device.VirtualDeviceSpec(operation="add", device=disk)


def larger_disk(disk: Any, capacity_kib: int) -> Any:
    """The same disk of a machine, larger."""
    disk.capacityInKB, disk.capacityInBytes = capacity_kib, capacity_kib << 10
    return api.vim().vm.device.VirtualDeviceSpec(operation="edit", device=disk)


def without(device: Any) -> Any:
    """A device taken out of a machine; the files under it stay."""
    return api.vim().vm.device.VirtualDeviceSpec(operation="remove", device=device)


def devices(changes: list[Any], change: str) -> Any:
    """Changes of a machine's devices.

    :param change: the version that the machine has to have still.
    """
    return api.vim().vm.ConfigSpec(deviceChange=changes, changeVersion=change)
