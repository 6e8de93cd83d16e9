# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of one subject: every sample, its median, and its bound, met or missed.

Bounds are reported, not enforced, because a time depends on the machine and the moment. CI enforces
counts, in the tests.
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
    """Measured quantity with several samples.

    :param unit: ``s``, ``MiB``, ``cores``; empty for a ratio.
    :param most: the bound of the median; ``None`` if it has no bound.
    """

    name: str
    unit: str
    samples: list[float] = field(default_factory=list)
    most: float | None = None

    @property
    def median(self) -> float:
        """Return the median of the samples."""
        return statistics.median(self.samples)

    @property
    def verdict(self) -> str:
        """Return ``met`` or ``MISSED``; empty if the figure has no bound."""
        if self.most is None:
            return ""
        return "met" if self.median <= self.most else "MISSED"

    def line(self) -> str:
        """Return the figure as text."""
        text = f"{self.name:58} {self.median:10.3f} {self.unit:6}"
        return text if self.most is None else f"{text} at most {self.most:g}: {self.verdict}"

    def facts(self) -> dict[str, Any]:
        """Return the figure as a dictionary."""
        return {**asdict(self), "median": self.median, "verdict": self.verdict}


class Book:
    """Figures of one subject.

    :param subject: its name, which is also the name of the file.
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
        """Add the ratio of the medians of two figures, unless one of them is missing."""
        if upper in self.figures and lower in self.figures:
            value = self.figures[upper].median / self.figures[lower].median
            self.note(name or f"{upper} / {lower}", "", value, most=most)

    def curve(
        self, plot: str, line: str, abscissa: float, ordinate: float, *, axes: tuple[str, str]
    ) -> None:
        """Add a point to a line of a plot.

        :param axes: the labels of the axes x and y.
        """
        point = {"plot": plot, "line": line, "x": abscissa, "y": ordinate, "axes": list(axes)}
        self.curves.append(point)

    def timeline(self, name: str, spans: list[tuple[str, float, float]]) -> None:
        """Add a timeline: label, begin and end in seconds of each span."""
        entries = [{"label": label, "begin": begin, "end": end} for label, begin, end in spans]
        self.timelines.append({"name": name, "spans": entries})

    def remark(self, name: str, text: str) -> None:
        """Add a result that is not a figure."""
        self.remarks[name] = text

    @contextmanager
    def attempt(self, part: str) -> Iterator[None]:
        """Run an optional part. Its error is reported at the end and fails the run."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # every error is reported
            self.failed[part] = f"{type(error).__name__}: {error}"

    def facts(self) -> dict[str, Any]:
        """Return all results as a dictionary."""
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
        """Write the results as JSON and return the path of the file."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.subject}.json"
        path.write_text(json.dumps(self.facts(), indent=2) + "\n", encoding="utf-8")
        return path

    def lines(self) -> list[str]:
        """Return the results as lines of text."""
        texts = [figure.line() for figure in self.figures.values() if figure.samples]
        texts += [f"{name}: {text}" for name, text in self.remarks.items()]
        texts += [f"NOT MEASURED {part}: {error}" for part, error in self.failed.items()]
        before, after = self._before[0], os.getloadavg()[0]
        return [
            f"{self.subject} (load {before:.2f} before, {after:.2f} after)",
            *(f"  {line}" for line in texts),
        ]


def seconds(begin: float) -> float:
    """Return the time since a moment, by the monotonic clock."""
    return time.monotonic() - begin
