# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a fork takes, beside what it is made of and what it replaces. Run by ``make bench``; a few minutes.

One run, one template, one machine: the figures are compared with each other, never with those of another machine.

floor      bare QEMU, no libvirt and no identity: incoming, resume, until plain HTTP answers over a forwarded port
fork       the product: until Docker answers over mutual TLS in a host with an identity of its own
many       ten hosts by one call, seconds each
cold boot  the same disk booted (a linked clone), until the same
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import floor

from stockyard import FleetSpec, HostSpec, ImageSpec, SingleSpec, TemplateSpec, Yard

WORK = Path(__file__).parents[1] / "build" / "bench"
BOUNDS = {"fork: Docker answers": 3.0, "many, each": 2.5}
MANY = 10
STAGE = re.compile(r": (?P<stage>.*) \((?P<seconds>[0-9.]+) s\)")


class Stages:
    """Listens to progress and keeps the seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, line: str) -> None:
        found = STAGE.search(line)
        if found:
            self.seconds[found["stage"]] = float(found["seconds"])

    def taken(self) -> dict[str, float]:
        """What was heard since the last call."""
        seconds, self.seconds = self.seconds, {}
        return seconds


@contextmanager
def opened(stages: Stages) -> Iterator[Yard]:
    """A yard for this run, left without hosts."""
    with Yard(owner="bench", storage=str(WORK / "store"), pki_dir=str(WORK / "pki"), progress=stages) as yard:
        yard.teardown()
        try:
            yield yard
        finally:
            yard.teardown()


def host_seconds(yard: Yard, stages: Stages, mode: str) -> dict[str, float]:
    """Make a host, note when each stage ended, take it away."""
    stages.taken()
    yard.host(SingleSpec("sample", floor.TEMPLATE, host=HostSpec(fork_mode=mode)))
    seconds = stages.taken()
    yard.host(SingleSpec("sample"), "absent")
    return seconds


def many_seconds(yard: Yard) -> float:
    """Make a fleet by one call; how long that took for each of its hosts."""
    begin = time.monotonic()
    yard.fleet(FleetSpec("many", floor.TEMPLATE, count=MANY))
    seconds = time.monotonic() - begin
    yard.remove_fleet("many")
    return seconds / MANY


def measure(samples: int, boots: int) -> dict[str, Any]:
    """All samples of one run."""
    stages = Stages()
    with opened(stages) as yard:
        say("template (built, or at hand from an earlier run)")
        image = ImageSpec(files=floor.FILES)
        template = yard.template(TemplateSpec(floor.TEMPLATE, image=image)).objects[-1]
        yard.prune_templates()
        say(f"{samples} forks and {samples} bare ones, in turn")
        forks, floors = [], []
        for _each in range(samples):
            floors.append(floor.seconds(yard, template, WORK))
            forks.append(host_seconds(yard, stages, "instant"))
        say(f"{MANY} forks by one call")
        many = [many_seconds(yard)]
        say(f"{boots} cold boot")
        colds = [host_seconds(yard, stages, "linked") for _each in range(boots)]
    return {"machine": machine(), "floor": floors, "fork": forks, "many": many, "cold_boot": colds}


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    first = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "qemu": first.splitlines()[0],
        "python": platform.python_version(),
        "load": os.getloadavg(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def summary(result: dict[str, Any]) -> dict[str, float]:
    """Medians, and their ratios within this run."""
    answers = "Docker answers"
    fork = statistics.median(s[answers] for s in result["fork"])
    cold = statistics.median(s[answers] for s in result["cold_boot"])
    bare = statistics.median(result["floor"])
    stages = {f"fork: {s}": statistics.median(x[s] for x in result["fork"]) for s in result["fork"][0]}
    many = {"many, each": statistics.median(result["many"])}
    ratios = {"fork / floor": fork / bare, "cold boot / fork": cold / fork}
    return {"floor": bare, **stages, **many, "cold boot": cold, **ratios}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--boots", type=int, default=1)
    given = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    result = measure(given.samples, given.boots)
    result["summary"] = summary(result)
    target = WORK / "start.json"
    target.write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result["summary"].items():
        bound = f"   (bound {BOUNDS[name]:g} s)" if name in BOUNDS else ""
        print(f"{name:32} {value:8.2f}{bound}")
    print(f"every sample: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
