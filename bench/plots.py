# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws what build/bench/*.json hold, as SVG in build/bench/plots. ``python -m bench.plots
[TARGET]`` says where else.

It runs in an environment of its own, with matplotlib and nothing of ours.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
# Text stays text, and the same figures give the same file.
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "stockyard", "font.size": 9})

from matplotlib import pyplot as plt  # noqa: E402  # after what draws was chosen

WORK = Path(__file__).parents[1] / "build" / "bench"
# Of the subject start, from the quickest to the slowest.
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
    """Draw everything that was measured."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else WORK / "plots"
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(WORK.glob("*.json")):
        for drawn in draw(json.loads(path.read_text(encoding="utf-8")), target):
            print(f"plot: {drawn}")
    return 0


def draw(found: Facts, target: Path) -> list[Path]:
    """All plots of one subject."""
    drawn = [_timeline(found, line, target) for line in found["timelines"]]
    drawn += [
        _curves(found, name, target) for name in dict.fromkeys(c["plot"] for c in found["curves"])
    ]
    return drawn + ([_bars(found, target)] if found["subject"] == "start" else [])


def _timeline(found: Facts, line: Facts, target: Path) -> Path:
    """What took place when: a bar for each phase, one under the other."""
    spans = line["spans"]
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(spans) + 1.2))
    axes.barh(
        range(len(spans)),
        [s["end"] - s["begin"] for s in spans],
        left=[s["begin"] for s in spans],
        height=0.7,
    )
    for row, span in enumerate(spans):
        axes.annotate(
            f" {1000 * (span['end'] - span['begin']):.0f} ms",
            (span["end"], row),
            va="center",
            fontsize=7,
        )
    axes.set_yticks(range(len(spans)), [s["label"] for s in spans])
    axes.invert_yaxis()
    axes.set_xlabel("seconds after the call")
    axes.margins(x=0.12)
    return _save(
        figure,
        found,
        f"One {line['name']}, phase by phase",
        target / f"{found['subject']}-phases.svg",
    )


def _curves(found: Facts, name: str, target: Path) -> Path:
    """Lines over what grows."""
    points = [c for c in found["curves"] if c["plot"] == name]
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for line in dict.fromkeys(c["line"] for c in points):
        mine = sorted((c["x"], c["y"]) for c in points if c["line"] == line)
        axes.plot(
            [x for x, _y in mine], [y for _x, y in mine], marker="o", markersize=3, label=line
        )
    along = sorted({c["x"] for c in points})
    if along[0] > 0 and along[-1] >= 30 * along[0] and len(along) < 10:
        axes.set_xscale("log")
        axes.set_xticks(along, [f"{x:g}" for x in along], minor=False)
        axes.minorticks_off()
        if max(c["y"] for c in points) > 30 * min(c["y"] for c in points):
            axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(points[0]["axes"][0])
    axes.set_ylabel(points[0]["axes"][1])
    axes.grid(alpha=0.3)
    axes.legend()
    return _save(figure, found, name, target / f"{found['subject']}-{_slug(name)}.svg")


def _bars(found: Facts, target: Path) -> Path:
    """Medians beside each other, with every sample as a dot."""
    figures = {f["name"]: f for f in found["figures"]}
    names = [name for name in BARS if name in figures]
    figure, axes = plt.subplots(figsize=(8, 0.4 * len(names) + 1.2))
    axes.barh(range(len(names)), [figures[n]["median"] for n in names], height=0.6, color="#8fb3d9")
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
        figure, found, "From the call to a container, and what it replaces", target / "start.svg"
    )


def _save(figure: Any, found: Facts, title: str, path: Path) -> Path:
    """Write it, with what it was measured on."""
    machine = found["machine"]
    load = f"load {found['load']['before'][0]:.1f} before"
    where = f"{machine['cores']} cores, {machine['accelerator']}, {load}"
    figure.suptitle(title, fontsize=11)
    figure.text(
        0.99, 0.01, f"{where}; {machine['time'][:10]}", ha="right", fontsize=7, color="#666666"
    )
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


if __name__ == "__main__":
    sys.exit(main())
