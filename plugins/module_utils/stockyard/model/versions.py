# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Package versions: their order, and the outdated packages of a host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_PIECES = re.compile(r"([^0-9]*)([0-9]*)")
_TILDE, _END, _OTHERS = 0, 1, 1 << 24

Key = tuple[int, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class MissingUpdate:
    """A package that is available in a later version than the installed one.

    :param package: the name of the package.
    :param installed: the installed version. Empty if the package is not installed.
    :param available: the version that the mirror offers.
    """

    package: str
    installed: str
    available: str

    def __str__(self) -> str:
        return f"{self.package} {self.installed or '(none)'} -> {self.available}"


def missing_updates(
    installed: Mapping[str, str], available: Mapping[str, str]
) -> tuple[MissingUpdate, ...]:
    """Return the outdated packages of an image, by name. A mirror with earlier versions makes no
    package outdated.
    """
    return tuple(
        MissingUpdate(name, installed.get(name, ""), version)
        for name, version in sorted(available.items())
        if name not in installed or later(version, installed[name])
    )


def later(version: str, reference: str) -> bool:
    """Return whether a version is later than a reference (Debian Policy 5.6.12)."""
    return _key(version) > _key(reference)


def _key(version: str) -> Key:
    """Return a version as numbers that compare as the policy says."""
    epoch, colon, remainder = version.partition(":")
    if not colon or not epoch.isdecimal():
        epoch, remainder = "0", version
    upstream, hyphen, revision = remainder.rpartition("-")
    if not hyphen:
        upstream, revision = remainder, "0"
    return (int(epoch), _numbers(upstream), _numbers(revision))


def _numbers(text: str) -> tuple[int, ...]:
    """Return text and numbers in turn, each text ended: a tilde sorts before the end, letters after
    it, all other characters after letters.
    """
    numbers: list[int] = []
    for words, digits in _PIECES.findall(text):
        numbers += [_weight(character) for character in words]
        numbers += [_END, int(digits or 0)]
    return tuple(numbers)


def _weight(character: str) -> int:
    if character == "~":
        return _TILDE
    return ord(character) + (1 if character.isalpha() else _OTHERS)
