# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Additional repositories: always signed, and never more than one line."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import BuildOptions, InvalidInput, Repository
from stockyard.model import codec
from stockyard.model.image import without_secrets

BEGIN, END = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
KEY = f"{BEGIN}\n\nmDMEZ\n{END}\n"
URL = "https://packages.example.org/debian"


def test_a_repository_is_one_paragraph_with_its_key() -> None:
    key = f"Signed-By:\n {BEGIN}\n .\n mDMEZ\n {END}\n"
    head = f"Types: deb\nURIs: {URL}\nSuites: "
    assert Repository(URL, KEY).stanza("bookworm") == f"{head}bookworm\nComponents: main\n{key}"
    assert Repository(URL, KEY, "./", ()).stanza("bookworm") == f"{head}./\n{key}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": ""},
        {"url": "ftp://x"},
        {"url": "http://a b"},
        {"url": "http://a\ndeb http://b"},
        {"url": 5},
        {"signed_by": ""},
        {"signed_by": "/etc/key"},
        {"signed_by": BEGIN},
        {"signed_by": KEY + "x"},
        {"signed_by": None},
        {"signed_by": KEY.replace("mD", "\0")},
        {"signed_by": BEGIN + "x" * 200_000 + END},
        {"suite": "a b"},
        {"suite": "../x"},
        {"suite": "[trusted=yes]"},
        {"suite": "a\n"},
        {"components": ("a b",)},
        {"components": ("",)},
        {"components": (5,)},
        {"components": ()},
    ],
)
def test_invalid_repository_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Repository(**{"url": URL, "signed_by": KEY, **wrong})


@given(st.text(), st.text(), st.text())
def test_no_text_makes_another_field(suite: str, component: str, inside: str) -> None:
    with suppress(InvalidInput):
        stanza = Repository(URL, f"{BEGIN}\n{inside}\n{END}", suite, (component,)).stanza(
            "bookworm"
        )
        lines = stanza.splitlines()
        assert "" not in lines
        fields = [line.split(":")[0] for line in lines if not line.startswith(" ")]
        assert [f for f in fields if f != "Components"] == ["Types", "URIs", "Suites", "Signed-By"]


def test_repository_is_recorded_without_its_password() -> None:
    build = BuildOptions(repositories=(Repository("https://me:secret@ours/debian", KEY),))
    decoded = codec.to_dict(without_secrets(build))
    assert decoded["repositories"][0]["url"] == "https://ours/debian"
    assert codec.from_dict(BuildOptions, decoded) == without_secrets(build)
