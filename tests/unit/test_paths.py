# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths that users declare."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import stockyard
from stockyard import InvalidInput, Yard
from stockyard.paths import expand_user


def test_home_directory_of_the_user_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_user("~/keys") == Path("/home/me/keys")
    assert expand_user("/var/~keys") == Path("/var/~keys")


def test_unknown_user_is_refused_with_the_path() -> None:
    with pytest.raises(InvalidInput, match="home directory of the user is unknown") as refused:
        expand_user("~no-such-user/keys")
    assert refused.value.name == "~no-such-user/keys"


def test_directory_of_an_unknown_user_is_refused(uri: str) -> None:
    with pytest.raises(InvalidInput, match="home directory of the user is unknown"):
        Yard(uri, pki_dir="~no-such-user/keys")


def test_every_declared_path_is_expanded_in_one_place() -> None:
    """``Path.expanduser`` raises ``RuntimeError`` for an unknown user."""
    package = Path(stockyard.__file__).parent
    places = [
        path.name
        for path in package.rglob("*.py")
        if re.search(r"\)\.expanduser\(|Path\.expanduser\(", path.read_text(encoding="utf-8"))
    ]
    assert places == ["paths.py"]
