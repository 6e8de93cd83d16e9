# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Package versions: which is the later one, and what a host lacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_PIECES = re.compile(r"([^0-9]*)([0-9]*)")
_TILDE, _END, _OTHERS = 0, 1, 1 << 24

Key = tuple[int, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Behind:
    """A package that is to be had in a later version than the one that is installed.

    :param installed: empty where it is not installed at all.
    """

    package: str
    installed: str
    available: str

    def __str__(self) -> str:
        return f"{self.package} {self.installed or '(none)'} -> {self.available}"


def behind(installed: Mapping[str, str], available: Mapping[str, str]) -> tuple[Behind, ...]:
    """What an image lacks, by package. A mirror with earlier versions makes nobody lack
    anything.
    """
    return tuple(
        Behind(name, installed.get(name, ""), version)
        for name, version in sorted(available.items())
        if name not in installed or later(version, installed[name])
    )


def later(one: str, other: str) -> bool:
    """Whether a version comes after another one (Debian Policy 5.6.12)."""
    return _key(one) > _key(other)


def _key(version: str) -> Key:
    """A version as numbers that compare as the policy says."""
    epoch, colon, rest = version.partition(":")
    if not colon or not epoch.isdecimal():
        epoch, rest = "0", version
    upstream, hyphen, revision = rest.rpartition("-")
    if not hyphen:
        upstream, revision = rest, "0"
    return (int(epoch), _numbers(upstream), _numbers(revision))


def _numbers(text: str) -> tuple[int, ...]:
    """Text and number in turn, each text ended: a tilde is before the end, letters after it, all
    else after letters.
    """
    found: list[int] = []
    for words, digits in _PIECES.findall(text):
        found += [_weight(c) for c in words]
        found += [_END, int(digits or 0)]
    return tuple(found)


def _weight(character: str) -> int:
    if character == "~":
        return _TILDE
    return ord(character) + (1 if character.isalpha() else _OTHERS)
