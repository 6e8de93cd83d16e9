# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories beside Debian's: always signed, and never more than one line."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import BuildOptions, InvalidInput, Repository
from stockyard.core import codec
from stockyard.core.image import without_secrets

BEGIN, END = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
KEY = f"{BEGIN}\n\nmDMEZ\n{END}\n"
URL = "https://packages.example.org/debian"


def test_a_repository_is_one_line() -> None:
    assert Repository(URL, KEY).line("bookworm", "/k") == f"deb [signed-by=/k] {URL} bookworm main"
    flat = Repository(URL, KEY, "./", ())
    assert flat.line("bookworm", "/k") == f"deb [signed-by=/k] {URL} ./"


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": ""}, {"url": "ftp://x"}, {"url": "http://a b"}, {"url": "http://a\ndeb http://b"}, {"url": 5},
        {"signed_by": ""}, {"signed_by": "/etc/key"}, {"signed_by": BEGIN}, {"signed_by": KEY + "x"},
        {"signed_by": None},
        {"signed_by": KEY.replace("mD", "\0")}, {"signed_by": BEGIN + "x" * 200_000 + END},
        {"suite": "a b"}, {"suite": "../x"}, {"suite": "[trusted=yes]"}, {"suite": "a\n"}, {"components": ("a b",)},
        {"components": ("",)}, {"components": (5,)}, {"components": ()},
    ],
)  # fmt: skip
def test_what_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Repository(**{"url": URL, "signed_by": KEY, **wrong})


@given(st.text(), st.text())
def test_no_text_makes_a_second_word_or_line(suite: str, component: str) -> None:
    with suppress(InvalidInput):
        line = Repository(URL, KEY, suite, (component,)).line("bookworm", "/k")
        assert len(line.splitlines()) == 1
        assert len(line.split(" ")) in (4, 5)
        assert line.startswith(f"deb [signed-by=/k] {URL} ")


def test_it_goes_on_record_without_its_password() -> None:
    build = BuildOptions(repositories=(Repository("https://me:secret@ours/debian", KEY),))
    told = codec.to_dict(without_secrets(build))
    assert told["repositories"][0]["url"] == "https://ours/debian"
    assert codec.from_dict(BuildOptions, told) == without_secrets(build)
