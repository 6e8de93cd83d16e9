# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Patterns for the files of a directory, such as ``reports/**`` or ``*.log``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..errors import InvalidInput

ANY_DEPTH = "**"
# Git runs programs that files in this directory name.
NEVER = ".git"


@dataclass(frozen=True)
class PathPattern:
    """A pattern that is compared with paths relative to a directory. ``*`` and ``?`` stay within
    one part of a path, ``**`` is any number of directories, and a directory stands for all files in
    it.

    :param text: the pattern as written.
    """

    text: str

    def __post_init__(self) -> None:
        parts = self.text.split("/")
        if not self.text.strip() or "\0" in self.text or not self.parts:
            raise InvalidInput("a pattern of files is empty.", remedy="write a pattern: reports/**")
        if self.text.startswith(("/", "~")) or ".." in parts:
            raise InvalidInput(
                f"the pattern {self.text!a} leaves the directory.",
                remedy="write a path relative to the directory that is copied, without ..",
            )

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the parts of the pattern."""
        return tuple(part for part in self.text.split("/") if part not in ("", "."))

    def matches(self, path: Sequence[str]) -> bool:
        """Return whether a file matches, or a directory that contains the file.

        :param path: the parts of the path of the file.
        """
        if NEVER in path:
            return False
        return any(_match(self.parts, path[:depth]) for depth in range(1, len(path) + 1))


def _match(pattern: Sequence[str], path: Sequence[str]) -> bool:
    # The positions of the pattern that the parts of the path can have reached.
    reached = _skipped({0}, pattern)
    for part in path:
        following = {
            index if pattern[index] == ANY_DEPTH else index + 1
            for index in reached
            if index < len(pattern)
            and (pattern[index] == ANY_DEPTH or fnmatchcase(part, pattern[index]))
        }
        reached = _skipped(following, pattern)
    return len(pattern) in reached


def _skipped(reached: set[int], pattern: Sequence[str]) -> set[int]:
    """Return positions, with those behind ``**``, which also stands for no directory."""
    for index in sorted(reached):
        position = index
        while position < len(pattern) and pattern[position] == ANY_DEPTH:
            position += 1
            reached = {*reached, position}
    return reached
