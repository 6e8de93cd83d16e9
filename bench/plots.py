# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plots of build/bench/*.json as SVG in build/bench/plots. ``python -m bench.plots [TARGET]``
selects another directory.

It runs in a separate environment that contains matplotlib and nothing of stockyard.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
# Text is stored as text, and equal figures give equal files.
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "stockyard", "font.size": 9})

from matplotlib import pyplot as plt  # noqa: E402  # after the choice of the backend

WORK = Path(__file__).parents[1] / "build" / "bench"
# Figures of the subject start, from the fastest to the slowest.
BARS = (
    "floor: bare QEMU answers",
    "fork: resumed",
    "fork: identity done",
    "fork: Docker over mutual TLS",
    "fork: second run of a container",
    "fork: first run of a container",
    "restore: Docker over mutual TLS",
    "cold boot: Docker over mutual TLS",
)
Facts = dict[str, Any]


def main() -> int:
    """Draw all results."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else WORK / "plots"
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(WORK.glob("*.json")):
        for plot in draw(json.loads(path.read_text(encoding="utf-8")), target):
            print(f"plot: {plot}")
    return 0


def draw(results: Facts, target: Path) -> list[Path]:
    """Draw all plots of one subject."""
    plots = [_timeline(results, line, target) for line in results["timelines"]]
    plots += [
        _curves(results, name, target)
        for name in dict.fromkeys(point["plot"] for point in results["curves"])
    ]
    return plots + ([_bars(results, target)] if results["subject"] == "start" else [])


def _timeline(results: Facts, line: Facts, target: Path) -> Path:
    """Draw the time of each phase: one bar for each, one below the other."""
    spans = line["spans"]
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(spans) + 1.2))
    axes.barh(
        range(len(spans)),
        [phase["end"] - phase["begin"] for phase in spans],
        left=[phase["begin"] for phase in spans],
        height=0.7,
    )
    for row, span in enumerate(spans):
        axes.annotate(
            f" {1000 * (span['end'] - span['begin']):.0f} ms",
            (span["end"], row),
            va="center",
            fontsize=7,
        )
    axes.set_yticks(range(len(spans)), [phase["label"] for phase in spans])
    axes.invert_yaxis()
    axes.set_xlabel("seconds after the call")
    axes.margins(x=0.12)
    return _save(
        figure,
        results,
        f"One {line['name']}, phase by phase",
        target / f"{results['subject']}-phases.svg",
    )


def _curves(results: Facts, name: str, target: Path) -> Path:
    """Draw the lines of one plot."""
    points = [point for point in results["curves"] if point["plot"] == name]
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for line in dict.fromkeys(point["line"] for point in points):
        pairs = sorted((point["x"], point["y"]) for point in points if point["line"] == line)
        axes.plot(
            [across for across, _y in pairs],
            [up for _x, up in pairs],
            marker="o",
            markersize=3,
            label=line,
        )
    values = sorted({point["x"] for point in points})
    if values[0] > 0 and values[-1] >= 30 * values[0] and len(values) < 10:
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{across:g}" for across in values], minor=False)
        axes.minorticks_off()
        if max(point["y"] for point in points) > 30 * min(point["y"] for point in points):
            axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(points[0]["axes"][0])
    axes.set_ylabel(points[0]["axes"][1])
    axes.grid(alpha=0.3)
    axes.legend()
    return _save(figure, results, name, target / f"{results['subject']}-{_slug(name)}.svg")


def _bars(results: Facts, target: Path) -> Path:
    """Draw medians side by side, with a dot for every sample."""
    figures = {figure_data["name"]: figure_data for figure_data in results["figures"]}
    names = [name for name in BARS if name in figures]
    figure, axes = plt.subplots(figsize=(8, 0.4 * len(names) + 1.2))
    axes.barh(
        range(len(names)),
        [figures[label]["median"] for label in names],
        height=0.6,
        color="#8fb3d9",
    )
    for row, name in enumerate(names):
        samples = figures[name]["samples"]
        axes.plot(samples, [row] * len(samples), ".", color="#1f3b57", markersize=3)
        axes.annotate(
            f" {figures[name]['median']:.2f} s", (max(samples), row), va="center", fontsize=8
        )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds (each step to the right is ten times as long)")
    axes.margins(x=0.15)
    return _save(
        figure, results, "From the call to a container, and what it replaces", target / "start.svg"
    )


def _save(figure: Any, results: Facts, title: str, path: Path) -> Path:
    """Write the plot, with a description of the machine."""
    machine = results["machine"]
    load = f"load {results['load']['before'][0]:.1f} before"
    description = f"{machine['cores']} cores, {machine['accelerator']}, {load}"
    figure.suptitle(title, fontsize=11)
    figure.text(
        0.99,
        0.01,
        f"{description}; {machine['time'][:10]}",
        ha="right",
        fontsize=7,
        color="#666666",
    )
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


if __name__ == "__main__":
    sys.exit(main())
