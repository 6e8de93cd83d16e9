# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Subordinate ids: ranges without overlaps for the containers of each tenant."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidInput, OperationRefused
from ..model import naming
from .machine import Machine

FILES = ("/etc/subuid", "/etc/subgid")
# The lock of lckpwdf(3), which useradd and usermod use too.
LOCK = "/etc/.pwd.lock"
COUNT = 65536
# login.defs(5): SUB_UID_MIN and SUB_UID_MAX.
LOW, HIGH = 100000, 600100000


@dataclass(frozen=True)
class Range:
    """Ids of one user, ``first`` to ``first + count - 1``."""

    user: str
    first: int
    count: int

    @property
    def end(self) -> int:
        """Return the first id after the range."""
        return self.first + self.count

    def overlaps(self, candidate: Range) -> bool:
        """Return whether two ranges have a common id."""
        return self.first < candidate.end and candidate.first < self.end

    def __str__(self) -> str:
        return f"{self.user}:{self.first}:{self.count}"


@dataclass(frozen=True)
class Wish:
    """Declared range of a user.

    :param first: the first id; ``None`` for the lowest free range.
    """

    user: str
    count: int = COUNT
    first: int | None = None
    present: bool = True

    def __post_init__(self) -> None:
        naming.user(self.user)
        naming.whole("count", self.count, 1, HIGH)
        if self.first is not None:
            naming.whole("first", self.first, 65536, (1 << 32) - 2 - self.count)


@dataclass(frozen=True)
class Outcome:
    """Contents of the two files before and after."""

    before: dict[str, str]
    after: dict[str, str]
    range: Range | None

    @property
    def changed(self) -> bool:
        """Return whether the files must be written."""
        return self.before != self.after


def converge(machine: Machine, wish: Wish, *, check: bool) -> Outcome:
    """Create a user's range, the same in both files, or delete it.

    :raises OperationRefused: if the range would overlap a range of another user.
    """
    if check:
        return plan({name: machine.read(name) or "" for name in FILES}, wish)
    with machine.locked(LOCK):
        outcome = plan({name: machine.read(name) or "" for name in FILES}, wish)
        for name, text in outcome.after.items():
            if text != outcome.before[name]:
                machine.write(name, text)
    return outcome


def plan(texts: dict[str, str], wish: Wish) -> Outcome:
    """Return the new contents of the files. Lines of other users and unreadable lines stay
    unchanged.
    """
    foreign = [item for text in texts.values() for item in ranges(text) if item.user != wish.user]
    own_ranges = {
        name: [item for item in ranges(text) if item.user == wish.user]
        for name, text in texts.items()
    }
    chosen = _choose(wish, foreign, own_ranges) if wish.present else None
    after = {name: _text(text, wish.user, chosen) for name, text in texts.items()}
    unchanged = all(
        [chosen] == current if chosen else not current for current in own_ranges.values()
    )
    return Outcome(texts, dict(texts) if unchanged else after, chosen)


def ranges(text: str) -> list[Range]:
    """Return the ranges of a file, without invalid lines."""
    result = []
    for line in text.splitlines():
        parts = line.split(":")
        if (
            len(parts) == 3
            and parts[0]
            and all(part.isascii() and part.isdigit() for part in parts[1:])
        ):
            result.append(Range(parts[0], int(parts[1]), int(parts[2])))
    return result


def _choose(wish: Wish, foreign: list[Range], own_ranges: dict[str, list[Range]]) -> Range:
    """Return the existing range if it is suitable, else the requested range, else the lowest free
    range.
    """
    fits = [
        candidate
        for current in own_ranges.values()
        for candidate in current
        if candidate.count == wish.count and wish.first in (None, candidate.first)
    ]
    existing = next(
        (
            candidate
            for candidate in fits
            if not any(candidate.overlaps(foreign_range) for foreign_range in foreign)
        ),
        None,
    )
    if existing:
        return existing
    if wish.first is None:
        return Range(wish.user, _free(wish.count, foreign), wish.count)
    requested = Range(wish.user, wish.first, wish.count)
    overlapped = next(
        (foreign_range for foreign_range in foreign if requested.overlaps(foreign_range)), None
    )
    if overlapped:
        raise OperationRefused(
            f"{requested} would overlap with {overlapped}.",
            name=f"user {wish.user}",
            cause="containers of both users could access each other's files and processes",
            remedy="omit first",
        )
    return requested


def _free(count: int, foreign: list[Range]) -> int:
    first = LOW
    for used in sorted(foreign, key=lambda item: item.first):
        if used.overlaps(Range("", first, count)):
            first = used.end
    if first + count > HIGH:
        raise InvalidInput(f"{count} more ids are not available.", remedy="delete unused ranges")
    return first


def _text(text: str, user: str, chosen: Range | None) -> str:
    lines = [line for line in text.splitlines() if line.split(":")[0] != user]
    return "".join(f"{line}\n" for line in [*lines, *([str(chosen)] if chosen else [])])
