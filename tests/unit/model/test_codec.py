# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records as JSON and back: faithful, canonical and strict."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard.errors import InvalidInput
from stockyard.hypervisor import records
from stockyard.model import codec
from stockyard.model.cloud_image import CloudImage
from stockyard.model.host import HostRecord
from stockyard.model.image import BuildOptions
from stockyard.model.template import Hardware, TemplateRecord
from tests.helpers.record_strategies import HOSTS, TEMPLATES
from tests.helpers.samples import host_record, template_record

HOST, TEMPLATE = host_record(), template_record()
TEXT = st.text(st.characters(codec="utf-8"))


@given(HOSTS | TEMPLATES)
def test_record_is_equal_after_encoding_and_decoding(record: HostRecord | TemplateRecord) -> None:
    text = records.encode(record)
    assert records.decode(text) == record
    assert text.isascii()
    assert "\n" not in text


@given(HOSTS, HOSTS)
def test_equal_values_and_no_others_have_equal_digests(
    first: HostRecord, second: HostRecord
) -> None:
    assert (codec.digest(first) == codec.digest(second)) == (first == second)


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert codec.digest({"a": 1, "b": [{"c": 2, "d": 3}]}) == codec.digest(
        {"b": [{"d": 3, "c": 2}], "a": 1}
    )


def test_a_digest_stays_the_same_over_the_years() -> None:
    # Generations are named by it: a change here orphans every template in the field.
    assert (
        codec.digest(Hardware())
        == "385e05005fad0873802093b44ad16d05275f50aa7beca4ccf2ea6f44409fd550"
    )


def plain(record: HostRecord | TemplateRecord) -> dict[str, Any]:
    return {"kind": record.kind, "schema": records.SCHEMA, **codec.to_dict(record)}


@pytest.mark.parametrize("field", sorted(plain(HOST)))
def test_host_record_with_a_field_of_another_type_is_refused(field: str) -> None:
    wrong: Any
    for wrong in ({"x": []}, [["x"]], 7 if isinstance(plain(HOST)[field], bool) else True):
        with pytest.raises(InvalidInput):
            records.decode(json.dumps({**plain(HOST), field: wrong}))


# Fields that the first records lacked: records without them are read.
LATE = ("promoted", "source", "disk_gib", "max_memory_mib", "encrypted", "provision", "options")


@pytest.mark.parametrize(
    "field", [f for f in plain(TEMPLATE) if f not in ("schema", "version", "checksums", *LATE)]
)
def test_template_record_without_a_field_is_refused(field: str) -> None:
    data = plain(TEMPLATE)
    del data[field]
    with pytest.raises(InvalidInput):
        records.decode(json.dumps(data))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "5",
        '"x"',
        "{",
        "{}",
        '{"kind":"pool"}',
        '{"kind":["host"]}',
        '{"kind":{}}',
        "[" * 100_000,
        '{"kind":"host"}',
        "NaN",
        "9" * 5000,
    ],
)
def test_text_that_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        records.decode(text)


@pytest.mark.parametrize("record", [HOST, TEMPLATE], ids=["host", "template"])
def test_record_with_an_unknown_field_is_refused(record: HostRecord | TemplateRecord) -> None:
    with pytest.raises(InvalidInput, match="since"):
        records.decode(json.dumps({**plain(record), "since": 1}))
    with pytest.raises(InvalidInput):
        records.decode(
            json.dumps({**plain(record), "kind": "template" if record.kind == "host" else "host"})
        )


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
        lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
        max_leaves=10,
    )
)
def test_arbitrary_json_is_a_record_or_refused_in_our_words(data: Any) -> None:
    with pytest.raises(InvalidInput):
        records.decode(json.dumps(data))


@pytest.mark.parametrize(
    "change", [{"uuid": "../../x"}, {"owner": "a/b"}, {"phase": "gone"}, {"address": "x,y"}]
)
def test_record_with_a_value_that_no_spec_allows_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        records.decode(json.dumps({**plain(HOST), **change}))


def test_a_field_that_came_later_is_left_out_at_its_default() -> None:
    assert codec.to_dict(BuildOptions()) == {
        "mirror": "",
        "security_mirror": "",
        "proxy": "",
        "repositories": [],
        "preload": [],
    }
    declared = BuildOptions(cloud_image=CloudImage("/image.qcow2"))
    assert codec.to_dict(declared)["cloud_image"] == {"location": "/image.qcow2", "checksum": ""}
    assert codec.from_dict(BuildOptions, codec.to_dict(declared)) == declared
    assert codec.from_dict(BuildOptions, codec.to_dict(BuildOptions())) == BuildOptions()
