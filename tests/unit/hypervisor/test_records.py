# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every field of every record is checked where the record is decoded. Records that earlier versions
wrote are read in test_recorded.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given

from stockyard.errors import InvalidInput
from stockyard.hypervisor import records
from stockyard.model import codec
from stockyard.model.observation import Record
from stockyard.model.volume import VolumeRecord
from tests.helpers.record_strategies import (
    HOSTS,
    TEMPLATES,
    VOLUMES,
    full_branch,
    full_host,
    full_pool,
    full_template,
    full_volume,
)

Path_ = tuple[str | int, ...]
# Text that no field can hold.
CONTROL = ["a\x1b]0;owned\x07", "a\rb", "a\x9b2Jb", "a\u202eb", "a\ud800b", "a\0b"]
LINE_BREAK = "a\n@cert-authority * ssh-ed25519 AAAA"
OPTION = "-oProxyCommand=touch /tmp/owned"
# Fields of free text: a line of any printable words, and one of several lines.
FREE = {
    "labels",
    "engine_id",
    "holder",
    "checksums",
    "provision",
}
SEVERAL_LINES = {"mode_reason"}


def decoded(data: dict[str, Any]) -> Any:
    """Return the record that plain data holds."""
    decode = {
        "volume": records.decode_volume,
        "pool": records.decode_pool,
        "branch": records.decode_branch,
    }
    return decode.get(data.get("kind", ""), records.decode)(json.dumps(data))


def plain(record: records.StoredRecord) -> dict[str, Any]:
    return {"kind": record.kind, "schema": records.SCHEMA, **codec.to_dict(record)}


def fields_of(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in ("kind", "schema")}


FULL = [
    plain(record)
    for record in (full_host(), full_template(), full_volume(), full_pool(), full_branch())
]


def leaves(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Yield every value that is inside no other, with the way to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, number))
    else:
        yield path, value


def changed(value: Any, path: Path_, new: Any) -> Any:
    """Return a copy with another value in one place."""
    if not path:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def fields(kind: type) -> list[Any]:
    return [
        pytest.param(data, path, id=f"{data['kind']}-{'-'.join(map(str, path))}")
        for data in FULL
        for path, value in leaves(data)
        if value.__class__ is kind and path not in (("kind",), ("schema",))
    ]


@pytest.mark.parametrize(
    "image",
    [
        "92d04c2b-0142-5fa3-9cd0-fd78cc9971fc@1795958481006846046",
        "4b0e@2026-01-31T12:00:00.000000Z",
        "4b0e@",
    ],
)
def test_record_of_a_source_on_vsphere_is_read(image: str) -> None:
    data = {**plain(full_template()), "image": image, "checksums": {"frozen": "yes"}}
    assert codec.to_dict(decoded(data)) == fields_of(data)


@pytest.mark.parametrize("data", FULL, ids=lambda d: str(d["kind"]))
def test_record_with_every_field_in_use_is_read(data: dict[str, Any]) -> None:
    assert codec.to_dict(decoded(data)) == fields_of(data)
    assert all(value not in (None, "", [], {}) for value in data.values() if value is not False)


@pytest.mark.parametrize(("data", "path"), fields(str))
def test_field_of_text_that_could_not_have_been_written_is_refused(
    data: dict[str, Any], path: Path_
) -> None:
    hostile = [*CONTROL, *([] if SEVERAL_LINES & set(path) else [LINE_BREAK])]
    hostile += [] if (FREE | SEVERAL_LINES) & set(path) else [OPTION]
    for text in hostile:
        with pytest.raises(InvalidInput):
            decoded(changed(data, path, text))


@pytest.mark.parametrize("key", [*CONTROL, LINE_BREAK, OPTION])
def test_key_of_a_mapping_that_could_not_have_been_written_is_refused(key: str) -> None:
    host, template = plain(full_host()), plain(full_template())
    for data in (
        {**host, "labels": {key: "x"}},
        changed(host, ("identity", "revoked"), {key: 1.0}),
        *([] if key == OPTION else [{**template, "checksums": {key: "x"}}]),
    ):
        with pytest.raises(InvalidInput):
            decoded(data)


@pytest.mark.parametrize(("data", "path"), [*fields(int), *fields(float)])
def test_field_of_a_number_out_of_bounds_is_refused(data: dict[str, Any], path: Path_) -> None:
    for number in (-1, 10**30, 10**400, True, "1"):
        with pytest.raises(InvalidInput):
            decoded(changed(data, path, number))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_timestamp_that_is_no_number_is_refused(text: str) -> None:
    data = json.dumps(plain(full_host())).replace('"expires": 2.0', f'"expires": {text}')
    assert text in data
    with pytest.raises(InvalidInput):
        records.decode(data)


def test_record_with_a_field_twice_is_refused() -> None:
    data = json.dumps(plain(full_host()))
    with pytest.raises(InvalidInput, match="twice"):
        records.decode(data[:-1] + ', "ssh_user": "root"}')


Coders = tuple[Callable[[Any], str], Callable[[str], Any]]


@given(HOSTS | TEMPLATES)
def test_machine_record_is_equal_after_encoding_and_decoding(record: Record) -> None:
    assert records.decode(records.encode(record)) == record


@given(VOLUMES)
def test_volume_record_is_equal_after_encoding_and_decoding(record: VolumeRecord) -> None:
    assert records.decode_volume(records.encode(record)) == record


@pytest.mark.parametrize("data", FULL, ids=lambda d: str(d["kind"]))
def test_record_of_a_newer_schema_is_refused_and_named(data: dict[str, Any]) -> None:
    newer = {**data, "schema": records.SCHEMA + 1, "field_of_tomorrow": 1}
    with pytest.raises(InvalidInput, match="made by a newer stockyard") as caught:
        decoded(newer)
    assert "update stockyard" in caught.value.remedy


@pytest.mark.parametrize("schema", [0, -1, True, "2", 2.0, None, [], 10**30])
def test_schema_without_a_version_number_is_refused(schema: Any) -> None:
    with pytest.raises(InvalidInput):
        decoded({**plain(full_host()), "schema": schema})


@pytest.mark.parametrize("data", FULL, ids=lambda d: str(d["kind"]))
@pytest.mark.parametrize("schema", range(1, records.SCHEMA))
def test_record_with_names_of_a_later_schema_than_its_own_is_refused(
    data: dict[str, Any], schema: int
) -> None:
    if records.CONVERSIONS[schema].get(data["kind"]):
        with pytest.raises(InvalidInput, match="earlier schema"):
            decoded({**data, "schema": schema})
    else:
        assert decoded({**data, "schema": schema}) == decoded(data)


def test_every_schema_has_a_conversion_to_the_next_one() -> None:
    assert sorted(records.CONVERSIONS) == list(range(1, records.SCHEMA))
