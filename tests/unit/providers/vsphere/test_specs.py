# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Specifications for vCenter: a disconnected card, an own address, and the parents of a disk."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import vim

from stockyard.providers.vsphere import specs


def card() -> Any:
    """A network card of a source's."""
    nic = vim.vm.device.VirtualVmxnet3(
        key=4000, controllerKey=100, unitNumber=7, macAddress="00:50:56:80:00:01"
    )
    nic.addressType = "assigned"
    nic.backing = vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(deviceName="VM Network")
    return nic


def disk(length: int) -> Any:
    """A disk with so many files under it."""
    kind: Any = vim.vm.device.VirtualDisk.FlatVer2BackingInfo
    backing = None
    for number in range(length):
        backing = kind(fileName=f"[ds] x-{number}.vmdk", diskMode="persistent", parent=backing)
    return vim.vm.device.VirtualDisk(key=2000, backing=backing)


def test_a_fork_s_card_is_off_the_wire_and_out_of_the_guest_s_hands() -> None:
    edited = specs.link(card(), False, mac="00:50:56:00:00:01").device
    link = edited.connectable
    assert (link.connected, link.startConnected, link.allowGuestControl) == (False, False, False)
    assert link.migrateConnect == "disconnect"
    assert (edited.addressType, edited.macAddress) == ("manual", "00:50:56:00:00:01")
    assert (edited.key, type(edited)) == (4000, type(card()))
    assert edited.backing.deviceName == "VM Network"


def test_a_card_that_is_connected_keeps_its_address() -> None:
    edited = specs.link(card(), True).device
    assert (edited.addressType, edited.macAddress) == ("assigned", "00:50:56:80:00:01")
    assert (edited.connectable.connected, edited.connectable.startConnected) == (True, True)


def test_a_connected_card_can_start_disconnected_and_no_other_starts_connected() -> None:
    links = [
        specs.link(card(), connected, at_start=at_start).device.connectable
        for connected in (True, False)
        for at_start in (True, False)
    ]
    assert [(link.connected, link.startConnected) for link in links] == [
        (True, True),
        (True, False),
        (False, False),
        (False, False),
    ]


def test_cards_are_found_among_devices() -> None:
    assert [
        nic.key for nic in specs.nics([disk(1), card(), vim.vm.device.VirtualCdrom(key=1)])
    ] == [4000]


@pytest.mark.parametrize("length", [0, 1, 255])
def test_the_longest_chain_counts(length: int) -> None:
    assert specs.chain_length([card(), disk(length), disk(0)]) == length


def test_a_write_names_the_version_that_was_read() -> None:
    assert specs.reconfigure({"a": "b"}, "42").changeVersion == "42"
    assert specs.reconfigure({"a": "b"}).changeVersion is None


def test_each_kind_of_port_group_is_connected() -> None:
    plain = vim.Network("network-7", None)
    assert specs.network_backing(plain, {"name": "VM Network"}).deviceName == "VM Network"
    distributed = vim.dvs.DistributedVirtualPortgroup("dvportgroup-7", None)
    port = specs.network_backing(distributed, {"key": "dvportgroup-7", "uuid": "50 0a"}).port
    assert (port.portgroupKey, port.switchUuid) == ("dvportgroup-7", "50 0a")
