# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import InvalidInput
from stockyard.integrations.jenkins.mark import PREFIX, Mark, mark_of, read
from tests.helpers.samples import HOSTILE, host_record

MARK = mark_of(host_record(), "qemu:///session@one")


def test_mark_is_equal_after_writing_and_reading() -> None:
    assert read(MARK.node, MARK.description) == MARK
    assert read(MARK.node, f"Changed by hand. {MARK.description}") == MARK


def test_no_two_hosts_have_nodes_of_the_same_name() -> None:
    assert mark_of(host_record(), "").node != mark_of(host_record(), "").node


def test_node_without_a_mark_is_foreign() -> None:
    assert read("built-in", "the controller's own") is None
    assert read("", "") is None


def test_copy_of_a_node_is_foreign() -> None:
    with pytest.raises(InvalidInput, match="the mark belongs to node"):
        read("copied", MARK.description)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["owner", "fleet", "host", "uuid"])
def test_mark_with_hostile_names_is_foreign(field: str, text: str) -> None:
    facts = {**json.loads(MARK.description.partition(PREFIX)[2]), field: text}
    with pytest.raises(InvalidInput):
        read(MARK.node, f"{PREFIX}{json.dumps(facts)}")


@given(st.text())
def test_any_other_description_is_no_mark(text: str) -> None:
    try:
        mark = read(MARK.node, f"{PREFIX}{text}")
    except InvalidInput:
        return
    assert mark == MARK


def test_mark_with_an_extra_field_is_damaged() -> None:
    facts = {**json.loads(MARK.description.partition(PREFIX)[2]), "more": 1}
    with pytest.raises(InvalidInput):
        read(MARK.node, f"{PREFIX}{json.dumps(facts)}")


def test_mark_contains_all_fields() -> None:
    assert Mark("o", "t", "f", "h-1", MARK.uuid).node == f"h-1-{MARK.uuid[:8]}"
