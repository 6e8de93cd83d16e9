# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Patterns of files: parts, depths, and paths that no pattern may name."""

from __future__ import annotations

import pytest

from stockyard.errors import InvalidInput
from stockyard.model.path_pattern import PathPattern


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("reports/**", "reports/a.xml", True),
        ("reports/**", "reports/deep/er/a.xml", True),
        ("reports/**", "other/a.xml", False),
        ("reports", "reports/deep/a.xml", True),
        ("./reports/", "reports/a.xml", True),
        ("**/a.xml", "a.xml", True),
        ("**/a.xml", "x/y/a.xml", True),
        ("*.xml", "a.xml", True),
        ("*.xml", "x/a.xml", False),
        ("r?ports/*/[ab].xml", "reports/x/b.xml", True),
        ("r?ports/*/[ab].xml", "reports/x/y/b.xml", False),
        ("a/**/b/**/c", "a/1/b/2/3/c", True),
        ("a/**/b/**/c", "a/1/2/3/c", False),
        ("**", ".git/hooks/pre-commit", False),
        (".git/**", ".git/config", False),
        ("**", ".gitignore", True),
    ],
)
def test_pattern_is_compared_with_the_parts_of_a_path(
    pattern: str, path: str, matches: bool
) -> None:
    assert PathPattern(pattern).matches(path.split("/")) is matches


@pytest.mark.parametrize(
    "pattern", ["", " ", "/etc/passwd", "../x", "a/../../x", "..", "~/x", "a\0b", ".", "./"]
)
def test_pattern_that_leaves_the_directory_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput):
        PathPattern(pattern)


def test_long_pattern_takes_little_time() -> None:
    assert not PathPattern("/".join(["**", "a"] * 30 + ["b"])).matches(["a"] * 200)
