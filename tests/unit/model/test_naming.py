# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and other values: what is refused, and how it is shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard.errors import InvalidInput
from stockyard.model import naming
from tests.helpers.samples import HOSTILE


@pytest.mark.parametrize("value", [*HOSTILE, None, 1, True, b"a", ["a"]])
def test_a_hostile_name_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput):
        naming.name("host", value)


@pytest.mark.parametrize("value", ["a", "0", "a-b", "a--b", "web-1", "x" * 63])
def test_plain_name_is_unchanged(value: str) -> None:
    assert naming.name("host", value) == value


def test_a_name_may_have_a_shorter_limit() -> None:
    assert naming.name("fleet", "x" * 40, naming.FLEET_NAME_MAX)
    with pytest.raises(InvalidInput, match="1 to 40"):
        naming.name("fleet", "x" * 41, naming.FLEET_NAME_MAX)


@given(st.text())
def test_accepted_name_is_safe_in_a_path_and_in_a_shell(value: str) -> None:
    try:
        naming.name("host", value)
    except InvalidInput:
        return
    assert set(value) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert 1 <= len(value) <= 63
    assert not value.startswith("-")


@given(st.one_of(st.text(), st.binary(), st.integers(), st.none(), st.lists(st.text())))
def test_an_error_message_shows_a_value_on_one_short_ascii_line(value: Any) -> None:
    escaped = naming.shown(value)
    assert len(escaped) <= 80
    assert escaped.isascii()
    assert escaped.isprintable()


@pytest.mark.parametrize("value", [v for v in HOSTILE if v != "a-"])
def test_a_hostile_user_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput):
        naming.user(value)


@pytest.mark.parametrize(
    "value", [v for v in HOSTILE if v != "a.b"] + ["docker.io-", "vim=1.0", "vim/sid", "?all"]
)
def test_a_hostile_package_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput):
        naming.package(value)


@pytest.mark.parametrize("value", ["g++", "docker.io", "libc6", "0ad", "python3-cryptography"])
def test_debian_packages_are_taken(value: str) -> None:
    assert naming.package(value) == value


@pytest.mark.parametrize(
    "value", [v for v in HOSTILE if not v or not v.isprintable() or len(v) > 63]
)
def test_a_hostile_label_key_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput):
        naming.labels({value: "x"})


@given(st.dictionaries(st.from_regex(r"\A[a-z][a-z0-9./_-]{0,20}[a-z]\Z"), st.text(max_size=255)))
def test_label_values_are_carried_faithfully_or_refused(labels: dict[str, str]) -> None:
    if all(text.isprintable() for text in labels.values()):
        assert naming.labels(labels) == labels
    else:
        with pytest.raises(InvalidInput):
            naming.labels(labels)


@pytest.mark.parametrize(
    "value", [None, [], "a=b", {"a": 1}, {"a": None}, {1: "a"}, {"a": "x" * 256}, {"a": "b\nc"}]
)
def test_labels_of_another_shape_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput):
        naming.labels(value)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 0, 4])
def test_a_whole_number_is_one_within_its_bounds(value: Any) -> None:
    with pytest.raises(InvalidInput, match="from 1 to 3"):
        naming.whole("count", value, 1, 3)
    assert [naming.whole("count", n, 1, 3) for n in (1, 2, 3)] == [1, 2, 3]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "../../etc",
        "{12345678-1234-5678-1234-567812345678}",
        "12345678123456781234567812345678",
        5,
    ],
)
def test_only_the_usual_form_of_a_uuid_is_taken(value: Any) -> None:
    with pytest.raises(InvalidInput):
        naming.identifier(value)
    assert naming.identifier("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    "value", ["", "127.0.0.1,hostfwd=x", "127.0.0.1\n", "::1", "127.1", 2130706433, "localhost"]
)
def test_only_an_ipv4_address_is_an_address(value: Any) -> None:
    with pytest.raises(InvalidInput):
        naming.address(value)


@pytest.mark.parametrize(
    "value",
    ["", "52:54:00:00:00", "52:54:00:00:00:00,x=y", "52-54-00-00-00-00", "52:54:00:00:00:0G"],
)
def test_only_a_mac_address_is_one(value: str) -> None:
    with pytest.raises(InvalidInput):
        naming.mac(value)


@given(st.sets(st.integers(1, 30)), st.integers(0, 30))
def test_the_lowest_free_names_are_given(used: set[int], count: int) -> None:
    names = naming.lowest_free("ci", [f"ci-{n}" for n in used] + ["other-1"], count)
    expected = [n for n in range(1, 100) if n not in used][:count]
    assert names == [f"ci-{n}" for n in expected]


@pytest.mark.parametrize("value", [1, 1.5, True, None])
def test_label_that_yaml_reads_as_another_type_gets_the_advice_to_quote_it(value: object) -> None:
    with pytest.raises(InvalidInput, match=r"label a: .* is not text") as caught:
        naming.labels({"a": value})
    assert caught.value.remedy == "put the value in quotes"
