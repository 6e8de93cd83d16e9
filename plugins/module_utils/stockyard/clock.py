# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time as a dependency: resources and providers never call ``time`` directly."""

from __future__ import annotations

import time
from typing import Protocol

from .errors import DeadlineExceeded


class Clock(Protocol):
    """A source of time."""

    def now(self) -> float:
        """Return the seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Return the seconds of a clock that never jumps."""

    def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds."""


class SystemClock:
    """The clock of the machine that runs the SDK."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Deadline:
    """A moment after which an operation has failed. It is passed down, never renewed.

    :param seconds: the time from now until the deadline.
    """

    def __init__(self, seconds: float, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.seconds = seconds
        self._end = self.clock.monotonic() + seconds

    def left(self) -> float:
        """Return the remaining seconds; never negative."""
        return max(0.0, self._end - self.clock.monotonic())

    def passed(self) -> bool:
        """Return whether the deadline has passed."""
        return self.left() <= 0.0

    def check(self, step: str, *, name: str = "", remedy: str = "") -> None:
        """Raise :class:`DeadlineExceeded` if the deadline has passed."""
        if self.passed():
            raise DeadlineExceeded(
                f"{step} took longer than {self.seconds:g} s.", name=name, remedy=remedy
            )

    def within(self, seconds: float) -> Deadline:
        """Return a deadline for one step: ``seconds`` from now, but never later than this
        deadline.
        """
        return Deadline(min(seconds, self.left()), self.clock)

    def pause(self, seconds: float) -> None:
        """Sleep, but not past the deadline."""
        self.clock.sleep(min(seconds, self.left()))
