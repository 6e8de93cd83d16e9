# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A clock whose pauses end when the work must stop."""

from __future__ import annotations

import threading

from ..clock import Clock
from ..errors import StockyardError


class Stopped(StockyardError):
    """An operation that was stopped during a pause."""


class StoppableClock:
    """A clock for one piece of work.

    :param clock: the source of time.
    :param stops: events that stop the work.
    """

    def __init__(self, clock: Clock, *stops: threading.Event) -> None:
        self._clock = clock
        self._stops = stops

    def now(self) -> float:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait; work that must stop ends here.

        :raises Stopped: if one of the events is set.
        """
        end = self.monotonic() + seconds
        while True:
            if any(stop.is_set() for stop in self._stops):
                raise Stopped("the operation was stopped.", remedy="run again")
            remaining = end - self.monotonic()
            if remaining <= 0:
                return
            self._clock.sleep(min(remaining, SLICE))


# The longest pause after an event, in seconds.
SLICE = 0.25
