# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The note of whose files are."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from stockyard.errors import InvalidInput
from stockyard.hypervisor.records import encode
from stockyard.providers.common import ownership
from tests.helpers.samples import HOSTILE, host_record, template_record

URI = "qemu:///session"


@pytest.mark.parametrize("record", [host_record(), template_record()])
def test_note_is_equal_after_writing_and_reading(tmp_path: Path, record: object) -> None:
    ownership.write(tmp_path / "note", URI, record)  # type: ignore[arg-type]
    assert ownership.read(tmp_path / "note", URI, "stockyard", record.uuid) == record  # type: ignore[attr-defined]
    assert [p.name for p in tmp_path.iterdir()] == ["note"]


def test_directory_without_proof_of_ownership_is_refused(tmp_path: Path) -> None:
    record, note = host_record(), tmp_path / "note"
    with pytest.raises(InvalidInput, match="it has no record of its owner"):
        ownership.read(note, URI, "stockyard", record.uuid)
    ownership.write(note, URI, record)
    for where, owner, name, why in (
        ("qemu:///system", "stockyard", record.uuid, "another hypervisor"),
        (URI, "other", record.uuid, "another owner"),
        (URI, "stockyard", host_record().uuid, "the record of its owner is a copy of another one"),
    ):
        with pytest.raises(InvalidInput, match=why):
            ownership.read(note, where, owner, name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "3",
        "[" * 5000,
        json.dumps({"uri": URI}),
        json.dumps({"uri": URI, "record": "{}"}),
        json.dumps({"uri": URI, "record": encode(host_record())[:-3]}),
        "\udcff",
    ],
)
def test_unreadable_note_proves_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "note").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidInput, match="cannot be read"):
        ownership.read(tmp_path / "note", URI, "stockyard", host_record().uuid)


@pytest.mark.parametrize("text", HOSTILE)
def test_only_a_uuid_is_a_name(text: str) -> None:
    assert not ownership.is_name(text)
    assert ownership.is_name(host_record().uuid)


def test_youngest_file_decides_the_age(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    young = tmp_path / "deep" / "young"
    young.write_text("")
    for path in (tmp_path, tmp_path / "deep"):
        os.utime(path, (1, 1))
    assert "s ago" in ownership.too_young(tmp_path, 60)
    os.utime(young, (1, 1))
    assert ownership.too_young(tmp_path, 60) == ""
    os.utime(young, (time.time() + 999,) * 2)
    assert ownership.too_young(tmp_path, 0) == ""
