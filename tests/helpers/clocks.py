# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clocks for tests."""

from __future__ import annotations

from stockyard.clock import SystemClock


class FakeClock:
    """Time that passes only by sleeping."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.time = now
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


class BriskClock(SystemClock):
    """The machine's own clock for guests that are none: they need no time to settle."""

    def sleep(self, seconds: float) -> None:
        super().sleep(min(seconds, 0.02))


class QuickClock(SystemClock):
    """The machine's own clock, with pauses of a tenth."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / 10)
