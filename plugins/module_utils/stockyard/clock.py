# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time as a dependency: services and providers never call ``time`` themselves."""

from __future__ import annotations

import time
from typing import Protocol

from .errors import DeadlineExceeded


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds of a clock that never jumps."""

    def sleep(self, seconds: float) -> None:
        """Wait that long."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Deadline:
    """A moment after which a piece of work has failed. Passed down, never renewed.

    :param seconds: how long from now.
    """

    def __init__(self, seconds: float, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.seconds = seconds
        self._end = self.clock.monotonic() + seconds

    def left(self) -> float:
        """Seconds left; never negative."""
        return max(0.0, self._end - self.clock.monotonic())

    def passed(self) -> bool:
        """Whether the time is up."""
        return self.left() <= 0.0

    def check(self, what: str, *, name: str = "", remedy: str = "") -> None:
        """Raise :class:`DeadlineExceeded` when the time is up."""
        if self.passed():
            raise DeadlineExceeded(
                f"{what} took longer than {self.seconds:g} s.", name=name, remedy=remedy
            )

    def within(self, seconds: float) -> Deadline:
        """A deadline for one step: ``seconds`` from now, but never later than this one."""
        return Deadline(min(seconds, self.left()), self.clock)

    def pause(self, seconds: float) -> None:
        """Sleep, but not past the deadline."""
        self.clock.sleep(min(seconds, self.left()))
