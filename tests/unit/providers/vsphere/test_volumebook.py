# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes in the register: one of a name, one holder, and nothing copied while somebody may write to it."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import Conflict, NotFound, Refused
from stockyard.core.volume import Holder, VolumeRecord
from stockyard.providers.vsphere import volumebook
from stockyard.providers.vsphere.register import Values
from stockyard.providers.vsphere.volumebook import Entry
from stockyard.providers.vsphere.yardbook import VOLUME, kept

HOLDER = Holder("0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10", "web-1", "/data")


def entry(name: str = "data", of: str = "", **changes: Any) -> Entry:
    own = str(uuid.uuid4())
    return Entry(VolumeRecord("stockyard", "default", name, own, 1, "ready", 1.0, **changes), f"[ds] {own}.vmdk", of)


def written(*entries: Entry) -> Values:
    values: Values = {}
    for one in entries:
        volumebook.write(values, one)
    return values


def test_what_is_written_is_read() -> None:
    one = entry(of=str(uuid.uuid4()), holder=HOLDER)
    assert volumebook.read(written(one)) == ([one], [])
    assert volumebook.find(written(one), one.record) == one
    assert kept(written(one))
    assert not kept({})


@given(value=st.one_of(st.text(), st.text().map(lambda text: f"1 {text}")))
def test_whatever_cannot_be_read_is_a_stranger(value: str) -> None:
    one = entry()
    values = {VOLUME + one.record.uuid: value}
    found, strangers = volumebook.read(values)
    assert (found, [s.name for s in strangers]) == ([], [f"volume {one.record.uuid}"])
    with pytest.raises(Refused):
        volumebook.find(values, one.record)
    with pytest.raises(Refused):
        volumebook.leave(values, one.record)
    with pytest.raises(Refused, match="may have its name"):
        volumebook.add(values, entry("other"), None)
    assert kept(values)


def test_a_copy_of_an_entry_is_none() -> None:
    one, other = entry(), entry("other")
    values = {VOLUME + other.record.uuid: written(one)[VOLUME + one.record.uuid]}
    assert "copy" in volumebook.read(values)[1][0].reason


def test_a_name_is_given_once_for_each_owner() -> None:
    one = entry()
    values = written(one)
    with pytest.raises(Conflict, match="exists"):
        volumebook.add(values, entry(), None)
    assert values == written(one)
    theirs = entry()
    volumebook.add(values, replace(theirs, record=replace(theirs.record, owner="another")), None)
    assert len(volumebook.read(values)[0]) == 2


def test_another_owner_s_volume_is_not_there() -> None:
    one = entry()
    with pytest.raises(NotFound):
        volumebook.find(written(one), replace(one.record, owner="another"))


def test_what_somebody_has_is_neither_copied_nor_deleted() -> None:
    held = entry(holder=HOLDER)
    values = written(held)
    for act in (
        lambda: volumebook.add(values, entry("copy", held.record.uuid), held.record),
        lambda: volumebook.leave(values, held.record),
    ):
        with pytest.raises(Refused, match="web-1"):
            act()
    assert values == written(held)


def test_what_is_being_copied_is_nobody_s_to_write_to() -> None:
    one = entry()
    copy = replace(entry("copy", one.record.uuid))
    copy = replace(copy, record=replace(copy.record, phase="creating"))
    values = written(one)
    volumebook.add(values, copy, one.record)
    for act in (
        lambda: volumebook.claim(values, one.record, {"holder": HOLDER}),
        lambda: volumebook.leave(values, one.record),
        lambda: volumebook.refuse_copied(values, one.record),
    ):
        with pytest.raises(Refused, match="copy"):
            act()
    ready = volumebook.claim(values, copy.record, {"phase": "ready"})
    assert volumebook.find(values, ready).of == ""
    volumebook.claim(values, one.record, {"holder": HOLDER})


def test_a_volume_that_goes_is_not_claimed_as_it_was() -> None:
    one = entry()
    values = written(one)
    gone = volumebook.leave(values, one.record)
    assert gone.record.phase == "deleting"
    assert volumebook.leave(values, one.record) == gone
    with pytest.raises(Conflict):
        volumebook.claim(values, one.record, {"holder": HOLDER})
    volumebook.drop(values, one.record)
    assert values == {}
