# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records as each version of stockyard wrote them, on each hypervisor: all of them are read.

``recorded/schema-1.json`` was written by commit b376502, the last one before records had a schema;
``recorded/schema-2.json`` by the first commit with schema 2. ``recorded/schema-3.json`` has the
records of schema 2 as the first commits with schema 3 encoded them, with a child, branches and an
unfinished resume; ``recorded/schema-4.json`` has the same with the largest size of a fleet, and
``recorded/schema-5.json`` with the declared numbers of a fleet, too. A new schema adds a file and
changes none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockyard.errors import InvalidInput
from stockyard.hypervisor import records
from stockyard.model import codec
from stockyard.model.host import HostRecord
from stockyard.model.observation import UnreadableObject
from stockyard.providers.common import ownership
from stockyard.providers.common.pool_files import FilePoolStore
from stockyard.providers.common.volume_files import VolumeFiles
from stockyard.providers.libvirt.xml.element import parse
from stockyard.providers.memory.provider import NO_LIMITS
from stockyard.providers.vsphere import branch_records, pools, reservations, volume_records
from stockyard.providers.vsphere import records as vsphere_records
from tests.helpers.locking import unlocked

FOLDER = Path(__file__).with_name("recorded")
RECORDED: dict[int, dict[str, Any]] = {
    int(path.stem.removeprefix("schema-")): json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(FOLDER.glob("schema-*.json"))
}
# The names of fields in schema 1, and those in schema 2.
RENAMED = {
    "host": {"frozen": "template_size", "most": "max_size", "resizes": "resize_mode"},
    "volume": {"holder": "attachment", "encryption": "encryption_id"},
}
SCHEMAS = pytest.mark.parametrize("schema", sorted(RECORDED))


def texts(schema: int) -> Iterator[str]:
    """Yield every record of a schema as text, without what the hypervisor stores around it."""
    memory, vsphere = RECORDED[schema]["memory"], RECORDED[schema]["vsphere"]
    yield from memory["machines"]
    yield from memory["pools"]
    yield from memory.get("branches", ())
    yield from (json.loads(note)["record"] for note in (*memory["volumes"], *memory["notes"]))
    libvirt = RECORDED[schema]["libvirt"]
    for xml in (*libvirt["metadata"], *libvirt.get("branches", ())):
        yield str(parse(xml).text)
    yield from (value.removeprefix("1 ") for value in vsphere["machines"])
    for key, value in vsphere["register"].items():
        if key.startswith(reservations.VOLUME):
            yield json.loads(value.removeprefix("1 "))["record"]
        elif key.startswith((reservations.HOST, reservations.POOL, reservations.BRANCH)):
            yield value.removeprefix("1 ")


def decoded(text: str) -> records.StoredRecord:
    kind = json.loads(text).get("kind", "pool")
    if kind == "pool":
        return records.decode_pool(text)
    if kind == "branch":
        return records.decode_branch(text)
    return records.decode_volume(text) if kind == "volume" else records.decode(text)


@SCHEMAS
def test_recorded_record_is_read_with_every_field(schema: int) -> None:
    kinds: list[str] = []
    for text in texts(schema):
        data = json.loads(text)
        record = decoded(text)
        names = RENAMED.get(record.kind, {}) if schema == 1 else {}
        fields = {names.get(key, key): value for key, value in data.items()}
        assert fields.pop("kind", "pool") == record.kind
        assert fields.pop("schema", 1) == schema
        assert {
            key: value for key, value in codec.to_dict(record).items() if key in fields
        } == fields
        kinds.append(record.kind)
    assert {
        kind: kinds.count(kind) for kind in ("host", "template", "volume", "pool", "branch")
    } == {
        # On each of three hypervisors, with the notes of owners and a reservation.
        "host": 13,
        "template": 7,
        "volume": 6,
        "pool": 4,
        # Schema 3 added branches.
        "branch": 0 if schema < 3 else 3,
    }


@SCHEMAS
def test_recorded_record_is_stored_in_the_present_schema(schema: int) -> None:
    for text in texts(schema):
        stored = records.encode(decoded(text))
        assert json.loads(stored)["schema"] == records.SCHEMA
        assert decoded(stored) == decoded(text)
        if schema == records.SCHEMA:
            # If this fails, a field has another name or meaning: increase the schema instead.
            assert json.loads(stored) == json.loads(text)


@SCHEMAS
def test_recorded_pools_and_volumes_in_files_are_read(schema: int, tmp_path: Path) -> None:
    memory = RECORDED[schema]["memory"]
    uri = json.loads(memory["volumes"][0])["uri"]
    (tmp_path / "pools").mkdir()
    for text in memory["pools"]:
        name = records.decode_pool(text).domain
        (tmp_path / "pools" / f"{name}.json").write_text(text)
    for text in memory["volumes"]:
        folder = tmp_path / "volumes" / records.decode_volume(json.loads(text)["record"]).uuid
        folder.mkdir(parents=True)
        (folder / "volume.json").write_text(text)
    read_pools, unreadable_pools = FilePoolStore(
        tmp_path / "pools", unlocked, lambda: NO_LIMITS
    ).read()
    observation = VolumeFiles(tmp_path / "volumes", uri, unlocked).observe("old")
    assert ([pool.name for pool in read_pools], unreadable_pools) == (["all", "gold"], ())
    assert [volume.name for volume in observation.volumes] == ["db-1-data", "golden", "snap"]
    assert observation.unreadable == ()
    attached = observation.find("default", "db-1-data")
    assert attached
    assert attached.attachment
    assert (attached.attachment.host, attached.attachment.mounted) == ("db-1", True)


@SCHEMAS
def test_recorded_notes_of_owners_are_read(schema: int, tmp_path: Path) -> None:
    for text in RECORDED[schema]["memory"]["notes"]:
        note = json.loads(text)
        uuid = records.decode(note["record"]).uuid
        (tmp_path / "note").write_text(text)
        assert ownership.read(tmp_path / "note", note["uri"], "old", uuid).uuid == uuid
        with pytest.raises(InvalidInput, match="another owner"):
            ownership.read(tmp_path / "note", note["uri"], "other", uuid)


@SCHEMAS
def test_recorded_register_of_vsphere_is_read(schema: int) -> None:
    values = RECORDED[schema]["vsphere"]["register"]
    reserved = dict(reservations.reserved(values))
    assert [record.phase for record in reserved.values() if isinstance(record, HostRecord)] == [
        "creating"
    ]
    read_pools, unreadable_pools = pools.read(values, "old")
    assert ([pool.name for pool in read_pools], unreadable_pools) == (["all", "gold"], [])
    entries, unreadable_volumes = volume_records.read(values)
    assert {entry.record.name for entry in entries} == {"db-1-data", "golden", "snap"}
    assert unreadable_volumes == []
    branches, unreadable_branches = branch_records.read(values)
    assert [branch.name for branch in branches] == ([] if schema < 3 else ["ci-1"])
    assert unreadable_branches == []


@SCHEMAS
def test_recorded_machines_of_vsphere_are_read(schema: int) -> None:
    for value in RECORDED[schema]["vsphere"]["machines"]:
        record = vsphere_records.from_value(value)
        machine = vsphere_records.Machine(
            None, record.domain, record.uuid, values={vsphere_records.RECORD: value}
        )
        assert vsphere_records.record_of(machine) == record


@SCHEMAS
def test_recorded_host_has_its_sizes_and_its_lease(schema: int) -> None:
    hosts = {
        record.name: record
        for record in map(records.decode, RECORDED[schema]["memory"]["machines"])
        if isinstance(record, HostRecord)
    }
    database = hosts["db-1"]
    leased = next(host for host in hosts.values() if host.lease)
    assert (database.template_size.memory_mib, database.max_size.memory_mib) == (1024, 4096)
    assert (database.size.vcpus, database.resize_mode) == (2, "both")
    assert leased.lease
    assert leased.lease.holder == "job 17, größe"
    assert leased.identity


def test_recorded_child_names_its_branch() -> None:
    hosts = [record for text in texts(3) if isinstance(record := decoded(text), HostRecord)]
    (branch,) = {record.uuid for text in texts(3) if (record := decoded(text)).kind == "branch"}
    assert {(host.name, host.branch) for host in hosts if host.branch} == {("ci-2", branch)}


def test_record_of_a_newer_version_is_an_unreadable_object_everywhere(tmp_path: Path) -> None:
    """A newer record is reported with the reason, wherever it is stored, and nothing is lost."""
    newer = re.compile(r'\\?"schema\\?":\d+')

    def future(text: str) -> str:
        return newer.sub(lambda match: re.sub(r"\d+$", "99", match[0]), text)

    memory, vsphere = RECORDED[records.SCHEMA]["memory"], RECORDED[records.SCHEMA]["vsphere"]
    reasons: list[str] = []
    for value in vsphere["machines"]:
        record = vsphere_records.from_value(value)
        values = {vsphere_records.RECORD: future(value)}
        machine = vsphere_records.Machine(None, record.domain, record.uuid, values=values)
        unreadable = vsphere_records.record_of(machine)
        assert isinstance(unreadable, UnreadableObject)
        reasons.append(unreadable.reason)
    register = {key: future(value) for key, value in vsphere["register"].items()}
    reasons += [
        record.reason
        for _name, record in reservations.reserved(register)
        if isinstance(record, UnreadableObject)
    ]
    reasons += [
        item.reason
        for module in (pools, volume_records, branch_records)
        for item in module.read(register)[1]
    ]
    uri = json.loads(memory["volumes"][0])["uri"]
    (tmp_path / "pools").mkdir()
    (tmp_path / "pools" / "x.json").write_text(future(memory["pools"][0]))
    folder = (
        tmp_path
        / "volumes"
        / records.decode_volume(json.loads(memory["volumes"][0])["record"]).uuid
    )
    folder.mkdir(parents=True)
    (folder / "volume.json").write_text(future(memory["volumes"][0]))
    reasons += [
        item.reason
        for item in (
            *FilePoolStore(tmp_path / "pools", unlocked, lambda: NO_LIMITS).read()[1],
            *VolumeFiles(tmp_path / "volumes", uri, unlocked).observe("old").unreadable,
        )
    ]
    assert len(reasons) == 4 + 1 + 2 + 3 + 1 + 1 + 1
    assert all("made by a newer stockyard" in reason for reason in reasons)
