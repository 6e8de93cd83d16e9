# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Subordinate ids: ranges for the containers of each tenant, none over another."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidInput, OperationRefused
from ..model import naming
from .machine import Machine

FILES = ("/etc/subuid", "/etc/subgid")
# The lock of lckpwdf(3), which useradd and usermod take too.
LOCK = "/etc/.pwd.lock"
COUNT = 65536
# login.defs(5): SUB_UID_MIN and SUB_UID_MAX.
LOW, HIGH = 100000, 600100000


@dataclass(frozen=True)
class Range:
    """Ids that belong to somebody, ``first`` to ``first + count - 1``."""

    user: str
    first: int
    count: int

    @property
    def end(self) -> int:
        """The first id behind it."""
        return self.first + self.count

    def overlaps(self, other: Range) -> bool:
        """Whether they have an id in common."""
        return self.first < other.end and other.first < self.end

    def __str__(self) -> str:
        return f"{self.user}:{self.first}:{self.count}"


@dataclass(frozen=True)
class Wish:
    """A range that a user is to have.

    :param first: where it is to begin; ``None`` for the lowest place that is free.
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
    """What the two files are to say."""

    before: dict[str, str]
    after: dict[str, str]
    range: Range | None

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return self.before != self.after


def converge(machine: Machine, wish: Wish, *, check: bool) -> Outcome:
    """Have a user's range, the same in both files, or none.

    :raises Refused: when it would lie over somebody else's.
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
    """What the files are to say. Lines of others, and those that nobody can read, stay
    as they are.
    """
    others = [r for text in texts.values() for r in ranges(text) if r.user != wish.user]
    mine = {name: [r for r in ranges(text) if r.user == wish.user] for name, text in texts.items()}
    chosen = _choose(wish, others, mine) if wish.present else None
    after = {name: _text(text, wish.user, chosen) for name, text in texts.items()}
    same = all([chosen] == found if chosen else not found for found in mine.values())
    return Outcome(texts, dict(texts) if same else after, chosen)


def ranges(text: str) -> list[Range]:
    """The ranges of a file, less lines that are none."""
    found = []
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) == 3 and parts[0] and all(p.isascii() and p.isdigit() for p in parts[1:]):
            found.append(Range(parts[0], int(parts[1]), int(parts[2])))
    return found


def _choose(wish: Wish, others: list[Range], mine: dict[str, list[Range]]) -> Range:
    """The range that is there if it will do, else the place that was asked for, else the lowest
    that is free.
    """
    fits = [
        r
        for found in mine.values()
        for r in found
        if r.count == wish.count and wish.first in (None, r.first)
    ]
    kept = next((r for r in fits if not any(r.overlaps(o) for o in others)), None)
    if kept:
        return kept
    if wish.first is None:
        return Range(wish.user, _free(wish.count, others), wish.count)
    asked = Range(wish.user, wish.first, wish.count)
    taken = next((o for o in others if asked.overlaps(o)), None)
    if taken:
        raise OperationRefused(
            f"{asked} would lie over {taken}.",
            name=f"user {wish.user}",
            cause="containers of both could be each other's files and processes",
            remedy="leave first out",
        )
    return asked


def _free(count: int, others: list[Range]) -> int:
    first = LOW
    for taken in sorted(others, key=lambda r: r.first):
        if taken.overlaps(Range("", first, count)):
            first = taken.end
    if first + count > HIGH:
        raise InvalidInput(
            f"there is no room for {count} more ids.", remedy="give ranges back that nobody uses"
        )
    return first


def _text(text: str, user: str, chosen: Range | None) -> str:
    kept = [line for line in text.splitlines() if line.split(":")[0] != user]
    return "".join(f"{line}\n" for line in [*kept, *([str(chosen)] if chosen else [])])
