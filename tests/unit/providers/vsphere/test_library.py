# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Items of content libraries: how they are named, and what is made of vCenter's answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard.errors import HypervisorError, InvalidInput, NotFound, StockyardError
from stockyard.providers.vsphere.library import Item, find_item, parts
from stockyard.providers.vsphere.rest import _value, messages


class Answers:
    """A session that says what it was told to say."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def request(self, method: str, path: str, body: Any = None) -> Any:
        kind = "item" if "/item" in path else "library"
        return self.answers["get" if method == "GET" else kind]


def test_an_item_is_named_by_its_library_and_its_name() -> None:
    assert parts("library:golden/debian 12/a") == ("golden", "debian 12/a")


@pytest.mark.parametrize(
    "source", ["library:", "library:golden", "library:golden/", "library:/debian"]
)
def test_half_a_name_is_refused(source: str) -> None:
    with pytest.raises(InvalidInput, match="LIBRARY/ITEM"):
        parts(source)


def test_each_version_of_an_item_is_a_machine_of_its_own() -> None:
    names = {Item(uuid, version, "ovf").machine for uuid in ("a", "b") for version in ("1", "2")}
    assert len(names) == 4


def test_ambiguous_library_item_is_refused() -> None:
    with pytest.raises(InvalidInput, match="2 items have this name"):
        find_item(Answers(library=["a"], item=["b", "c"]), "library:golden/debian")  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="library golden"):
        find_item(Answers(library=[], item=["b"]), "library:golden/debian")  # type: ignore[arg-type]
    answers = Answers(library=["a"], item=["b"], get={"type": "OVF", "content_version": "3"})
    assert find_item(answers, "library:golden/debian") == Item("b", "3", "ovf")  # type: ignore[arg-type]


@given(st.integers(100, 599), st.binary(max_size=200))
def test_any_answer_gives_a_value_or_a_stockyard_error(status: int, text: bytes) -> None:
    raised = ""
    try:
        _value("vcenter", status, text)
    except StockyardError as error:
        raised = str(error)
    assert bool(raised) == (status >= 400)
    assert not raised or ("Remedy: " in raised and "\n" not in raised)


def test_the_words_of_an_answer_are_found_wherever_they_are() -> None:
    fault = {
        "errors": [
            {
                "error": {
                    "messages": [{"default_message": "no room"}, {"default_message": "none at all"}]
                }
            }
        ]
    }
    assert messages(fault) == "no room; none at all"
    with pytest.raises(HypervisorError, match="no room"):
        _value(
            "vcenter",
            500,
            b'{"type": "x", "value": {"messages": [{"default_message": "no room"}]}}',
        )
