# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a daemon, for its log, its health and its metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..clock import Clock
from ..hypervisor.provider import Progress


class Status:
    """The state of a daemon; any thread can change it.

    :param progress: receives a line for each change that operators must see.
    """

    def __init__(self, clock: Clock, progress: Progress) -> None:
        self._clock = clock
        self._progress = progress
        self._lock = threading.Lock()
        self._passes = 0
        self._failures = 0
        self._last_success = 0.0
        self._error = ""
        self._requests = 0

    def report(self, line: str) -> None:
        """Write a line to the log."""
        self._progress(line)

    def succeeded(self) -> None:
        """Count a complete pass."""
        with self._lock:
            self._passes += 1
            self._last_success = self._clock.now()
            recovered, self._error = bool(self._error), ""
        if recovered:
            self._progress("the yard is in order again")

    def failed(self, error: str, pause: float) -> None:
        """Count a failed pass, and report its error once.

        :param pause: seconds until the next attempt.
        """
        with self._lock:
            self._failures += 1
            is_new, self._error = self._error != error, error
        if is_new:
            self._progress(f"the yard was not kept: {error} Next attempt in {pause:g} s.")

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request for a lease while it waits."""
        with self._lock:
            self._requests += 1
        try:
            yield
        finally:
            with self._lock:
                self._requests -= 1

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the last pass was complete, and the figures."""
        with self._lock:
            healthy = bool(self._last_success) and not self._error
            return healthy, {
                "healthy": healthy,
                "last_success": self._last_success,
                "passes": self._passes,
                "failures": self._failures,
            }

    def metrics(self) -> str:
        """Return the figures in Prometheus' text form."""
        with self._lock:
            figures = (
                ("passes_total", "counter", "Complete passes over the yard.", self._passes),
                ("failures_total", "counter", "Failed passes over the yard.", self._failures),
                (
                    "last_success_timestamp_seconds",
                    "gauge",
                    "When the last complete pass ended.",
                    self._last_success,
                ),
                ("lease_requests", "gauge", "Requests of projects that wait.", self._requests),
            )
        lines: list[str] = []
        for name, kind, meaning, value in figures:
            metric = f"stockyard_serve_{name}"
            lines += [f"# HELP {metric} {meaning}", f"# TYPE {metric} {kind}"]
            lines.append(f"{metric} {float(value)!r}")
        return "".join(f"{line}\n" for line in lines)
