# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes in the register: one of a name, one attachment, and nothing copied while a host may write
to it.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import Conflict, NotFound, OperationRefused
from stockyard.model.volume import Attachment, VolumeRecord
from stockyard.providers.vsphere import volume_records
from stockyard.providers.vsphere.register import Values
from stockyard.providers.vsphere.reservations import VOLUME, kept
from stockyard.providers.vsphere.volume_records import Entry

HOLDER = Attachment("0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10", "web-1", "/data")


def entry(name: str = "data", of: str = "", **changes: Any) -> Entry:
    own = str(uuid.uuid4())
    return Entry(
        VolumeRecord("stockyard", "default", name, own, 1, "ready", 1.0, **changes),
        f"[ds] {own}.vmdk",
        of,
    )


def written(*entries: Entry) -> Values:
    values: Values = {}
    for volume in entries:
        volume_records.write(values, volume)
    return values


def test_written_volume_record_is_read() -> None:
    volume = entry(of=str(uuid.uuid4()), attachment=HOLDER)
    assert volume_records.read(written(volume)) == ([volume], [])
    assert volume_records.find(written(volume), volume.record) == volume
    assert kept(written(volume))
    assert not kept({})


@given(value=st.one_of(st.text(), st.text().map(lambda text: f"1 {text}")))
def test_unreadable_volume_record_counts_as_foreign(value: str) -> None:
    volume = entry()
    values = {VOLUME + volume.record.uuid: value}
    volumes, unreadable = volume_records.read(values)
    assert (volumes, [s.name for s in unreadable]) == ([], [f"volume {volume.record.uuid}"])
    with pytest.raises(OperationRefused):
        volume_records.find(values, volume.record)
    with pytest.raises(OperationRefused):
        volume_records.leave(values, volume.record)
    with pytest.raises(OperationRefused, match="an unreadable volume may have the same name"):
        volume_records.add(values, entry("other"), None)
    assert kept(values)


def test_a_copy_of_an_entry_is_none() -> None:
    first, second = entry(), entry("other")
    values = {VOLUME + second.record.uuid: written(first)[VOLUME + first.record.uuid]}
    assert "copy" in volume_records.read(values)[1][0].reason


def test_a_name_is_given_once_for_each_owner() -> None:
    volume = entry()
    values = written(volume)
    with pytest.raises(Conflict, match="exists"):
        volume_records.add(values, entry(), None)
    assert values == written(volume)
    foreign_volume = entry()
    volume_records.add(
        values,
        replace(foreign_volume, record=replace(foreign_volume.record, owner="another")),
        None,
    )
    assert len(volume_records.read(values)[0]) == 2


def test_volume_of_another_owner_is_invisible() -> None:
    volume = entry()
    with pytest.raises(NotFound):
        volume_records.find(written(volume), replace(volume.record, owner="another"))


def test_attached_volume_is_neither_copied_nor_deleted() -> None:
    held = entry(attachment=HOLDER)
    values = written(held)
    for act in (
        lambda: volume_records.add(values, entry("copy", held.record.uuid), held.record),
        lambda: volume_records.leave(values, held.record),
    ):
        with pytest.raises(OperationRefused, match="web-1"):
            act()
    assert values == written(held)


def test_volume_in_a_copy_cannot_be_attached() -> None:
    volume = entry()
    copy = replace(entry("copy", volume.record.uuid))
    copy = replace(copy, record=replace(copy.record, phase="creating"))
    values = written(volume)
    volume_records.add(values, copy, volume.record)
    for act in (
        lambda: volume_records.claim(values, volume.record, {"attachment": HOLDER}),
        lambda: volume_records.leave(values, volume.record),
        lambda: volume_records.refuse_copied(values, volume.record),
    ):
        with pytest.raises(OperationRefused, match="copy"):
            act()
    ready = volume_records.claim(values, copy.record, {"phase": "ready"})
    assert volume_records.find(values, ready).of == ""
    volume_records.claim(values, volume.record, {"attachment": HOLDER})


def test_volume_in_deletion_cannot_be_claimed() -> None:
    volume = entry()
    values = written(volume)
    remaining_values = volume_records.leave(values, volume.record)
    assert remaining_values.record.phase == "deleting"
    assert volume_records.leave(values, volume.record) == remaining_values
    with pytest.raises(Conflict):
        volume_records.claim(values, volume.record, {"attachment": HOLDER})
    volume_records.delete(values, volume.record)
    assert values == {}
