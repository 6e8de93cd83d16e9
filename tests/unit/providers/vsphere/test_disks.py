# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of volumes: known by their uuids wherever their files are, and put where there is room."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import vim

from stockyard import Unsupported
from stockyard.model.volume import VolumeRecord
from stockyard.providers.vsphere import disks, specs

RECORD = VolumeRecord(
    "stockyard", "default", "data", "0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10", 1, "ready", 1.0
)
OTHER = VolumeRecord(
    "stockyard", "default", "other", "1b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10", 1, "ready", 1.0
)
DIGITS = "6000c295cd000b0a4a869c3b4b0e9a5e"
SHOWN = "6000C295-cd00-0b0a-4a86-9c3b4b0e9a5e"


def disk(
    file: str,
    uuid: str | None = None,
    unit: int = 0,
    controller: int = 1000,
    mode: str = "independent_persistent",
) -> Any:
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName=file, diskMode=mode, uuid=uuid)
    return vim.vm.device.VirtualDisk(
        key=2000 + unit, controllerKey=controller, unitNumber=unit, backing=backing
    )


def scsi(key: int = 1000) -> Any:
    return vim.vm.device.ParaVirtualSCSIController(key=key)


def test_a_disk_s_uuid_follows_from_its_volume_and_is_the_guest_s_serial_number() -> None:
    assert disks.uuid_of(RECORD) == DIGITS
    assert DIGITS.endswith(RECORD.serial)
    assert disks.digits(SHOWN) == disks.digits(disks.spelled(DIGITS)) == DIGITS
    assert disks.spelled(DIGITS) == "60 00 c2 95 cd 00 0b 0a-4a 86 9c 3b 4b 0e 9a 5e"


def test_a_volume_is_known_by_its_uuid_or_by_its_place() -> None:
    own = disk("[ds] web-1/web-1.vmdk", SHOWN, mode="persistent")
    foreign_disk = disk("[ds] web-1/web-1_2.vmdk", "6000C29f-1c1c-0b0a-4a86-9c3b4b0e9a5e")
    moved, unsigned = disk("[other] web-1/web-1_1.vmdk", SHOWN), disk(disks.path("ds", RECORD))
    assert [disks.is_volume(d) for d in (scsi(), own, foreign_disk, moved, unsigned)] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert disks.in_machine([scsi(), own, moved], RECORD, disks.path("ds", RECORD)) is moved
    assert disks.in_machine([unsigned], RECORD, disks.path("ds", RECORD)) is unsigned
    assert disks.in_machine([own, moved, unsigned], OTHER, disks.path("ds", OTHER)) is None


def test_disk_is_placed_on_a_datastore_with_space() -> None:
    full = [scsi(), *(disk(f"[ds] {unit}.vmdk", unit=unit) for unit in disks.UNITS)]
    assert disks.place_for([scsi(), disk("[ds] a.vmdk")], "web-1") == (1000, 1)
    assert disks.place_for(full[:7], "web-1") == (1000, 6)
    assert disks.place_for(full[:8], "web-1") == (1000, 8)
    assert disks.place_for([*full, scsi(1001)], "web-1") == (1001, 0)
    with pytest.raises(Unsupported, match="no free SCSI unit"):
        disks.place_for(full, "web-1")
    with pytest.raises(Unsupported, match="no SCSI controller"):
        disks.place_for([disk("[ds] a.vmdk", controller=15000)], "web-1")


def test_volume_disk_is_independent_and_kept_when_detached() -> None:
    added = specs.known_disk("[ds] a.vmdk", 1000, 1)
    assert (added.operation, added.fileOperation) == ("add", None)
    assert added.device.backing.diskMode == "independent_persistent"
    removed = specs.without(added.device)
    assert (removed.operation, removed.fileOperation) == ("remove", None)
