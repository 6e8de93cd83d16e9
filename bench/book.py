# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one subject's run found: every sample, its median, and the bound that it is held against,
met or missed.

Bounds are stated, not enforced: a timing is of one machine at one time. What CI gates on is counted
in the tests.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .machine import machine


@dataclass
class Figure:
    """One thing that was measured, some times.

    :param unit: ``s``, ``MiB``, ``cores``; empty for a ratio.
    :param most: the bound of the median; ``None`` where there is none.
    """

    name: str
    unit: str
    samples: list[float] = field(default_factory=list)
    most: float | None = None

    @property
    def median(self) -> float:
        """The middle of the samples."""
        return statistics.median(self.samples)

    @property
    def verdict(self) -> str:
        """``met`` or ``MISSED``; empty where there is no bound."""
        if self.most is None:
            return ""
        return "met" if self.median <= self.most else "MISSED"

    def line(self) -> str:
        """As people read it."""
        text = f"{self.name:58} {self.median:10.3f} {self.unit:6}"
        return text if self.most is None else f"{text} at most {self.most:g}: {self.verdict}"

    def facts(self) -> dict[str, Any]:
        """As programs read it."""
        return {**asdict(self), "median": self.median, "verdict": self.verdict}


class Book:
    """The figures of one subject, as they come.

    :param subject: its name; the file is called so.
    """

    def __init__(self, subject: str, *, full: bool = False) -> None:
        self.subject = subject
        self.full = full
        self.figures: dict[str, Figure] = {}
        self.curves: list[dict[str, Any]] = []
        self.timelines: list[dict[str, Any]] = []
        self.remarks: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self._before, self._begin = os.getloadavg(), time.monotonic()

    def note(self, name: str, unit: str, *samples: float, most: float | None = None) -> Figure:
        """Add samples of a figure."""
        figure = self.figures.setdefault(name, Figure(name, unit, most=most))
        figure.samples += samples
        return figure

    def ratio(self, upper: str, lower: str, *, most: float | None = None, name: str = "") -> None:
        """Set the medians of two figures of this run in relation; nothing where one of them is
        missing.
        """
        if upper in self.figures and lower in self.figures:
            value = self.figures[upper].median / self.figures[lower].median
            self.note(name or f"{upper} / {lower}", "", value, most=most)

    def curve(self, plot: str, line: str, x: float, y: float, *, axes: tuple[str, str]) -> None:
        """Add a point to a line of a plot.

        :param axes: what is along x and y.
        """
        point = {"plot": plot, "line": line, "x": x, "y": y, "axes": list(axes)}
        self.curves.append(point)

    def timeline(self, name: str, spans: list[tuple[str, float, float]]) -> None:
        """Keep what took place when: label, begin and end in seconds."""
        listed = [{"label": label, "begin": begin, "end": end} for label, begin, end in spans]
        self.timelines.append({"name": name, "spans": listed})

    def remark(self, name: str, text: str) -> None:
        """Keep what is no figure."""
        self.remarks[name] = text

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """A part that the rest can do without: what goes wrong in it is told at the end, and fails
        the run.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told
            self.failed[what] = f"{type(error).__name__}: {error}"

    def facts(self) -> dict[str, Any]:
        """All of it."""
        return {
            "subject": self.subject,
            "full": self.full,
            "machine": machine(),
            "load": {"before": self._before, "after": os.getloadavg()},
            "seconds": round(time.monotonic() - self._begin, 1),
            "figures": [figure.facts() for figure in self.figures.values() if figure.samples],
            "curves": self.curves,
            "timelines": self.timelines,
            "remarks": self.remarks,
            "failed": self.failed,
        }

    def save(self, folder: Path) -> Path:
        """Write it as JSON; returns where."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.subject}.json"
        path.write_text(json.dumps(self.facts(), indent=2) + "\n", encoding="utf-8")
        return path

    def lines(self) -> list[str]:
        """What is printed of it."""
        shown = [figure.line() for figure in self.figures.values() if figure.samples]
        shown += [f"{name}: {text}" for name, text in self.remarks.items()]
        shown += [f"NOT MEASURED {what}: {error}" for what, error in self.failed.items()]
        before, after = self._before[0], os.getloadavg()[0]
        return [
            f"{self.subject} (load {before:.2f} before, {after:.2f} after)",
            *(f"  {line}" for line in shown),
        ]


def seconds(begin: float) -> float:
    """How long ago that was, by the clock that never jumps."""
    return time.monotonic() - begin
