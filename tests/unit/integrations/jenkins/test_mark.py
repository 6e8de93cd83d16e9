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


def test_a_mark_is_read_as_it_was_written() -> None:
    assert read(MARK.node, MARK.description) == MARK
    assert read(MARK.node, f"Changed by hand. {MARK.description}") == MARK


def test_no_two_hosts_have_nodes_of_the_same_name() -> None:
    assert mark_of(host_record(), "").node != mark_of(host_record(), "").node


def test_a_node_without_a_mark_is_somebody_elses() -> None:
    assert read("built-in", "the controller's own") is None
    assert read("", "") is None


def test_a_copy_of_a_node_is_not_ours() -> None:
    with pytest.raises(InvalidInput, match="the mark belongs to node"):
        read("copied", MARK.description)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["owner", "fleet", "host", "uuid"])
def test_a_mark_of_hostile_names_is_not_ours(field: str, text: str) -> None:
    facts = {**json.loads(MARK.description.partition(PREFIX)[2]), field: text}
    with pytest.raises(InvalidInput):
        read(MARK.node, f"{PREFIX}{json.dumps(facts)}")


@given(st.text())
def test_whatever_stands_in_a_description_it_is_no_mark(text: str) -> None:
    try:
        mark = read(MARK.node, f"{PREFIX}{text}")
    except InvalidInput:
        return
    assert mark == MARK


def test_a_mark_with_one_thing_too_many_is_damaged() -> None:
    facts = {**json.loads(MARK.description.partition(PREFIX)[2]), "more": 1}
    with pytest.raises(InvalidInput):
        read(MARK.node, f"{PREFIX}{json.dumps(facts)}")


def test_it_says_all() -> None:
    assert Mark("o", "t", "f", "h-1", MARK.uuid).node == f"h-1-{MARK.uuid[:8]}"
