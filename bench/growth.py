# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Growth of cost from one host to a thousand, without waiting for guests.

On the memory hypervisor, calls of the port and requests to guests are counted; on the simulated
vCenter, calls of vSphere's API as the simulator receives them. Processor time is that of the
controller; memory is what the controller's objects add.
"""

from __future__ import annotations

import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

from stockyard import FleetSpec, ImageSpec, TemplateSpec, Yard
from stockyard.providers.open import open_provider
from tests.helpers.clocks import BriskClock
from tests.vcsim.simulator import SOURCE, Simulator

from .book import Book, seconds
from .counting import CountingProvider
from .options import Options

AXES = ("hosts", "seconds")
# Bounds for the largest fleet: seconds of processor time of each step, and MiB.
LARGEST, LONGEST, MOST_MEMORY = 1000, 1.0, 150.0
# Calls for each host of the largest fleet, divided by those of a fleet of ten. At 1 they are
# constant.
CONSTANT = 1.05
Count = Callable[[], int]


def measure(book: Book, options: Options) -> None:
    """Measure new fleets of growing size."""
    sizes = (1, 10, 100, 1000) if options.full else (1, 10, 100)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        provider = CountingProvider(open_provider(f"memory://{folder}/hypervisor"))
        with Yard(
            provider=provider.as_provider(), pki_dir=f"{folder}/pki", clock=BriskClock()
        ) as yard:
            yard.templates.apply(TemplateSpec("base"))
            _grown(book, "memory", yard, sizes, lambda: provider.taken().total())
    with book.attempt("the simulated vCenter"):
        _vcenter(book, sizes)


def _vcenter(book: Book, sizes: tuple[int, ...]) -> None:
    with Simulator() as vcenter:
        os.environ.update(vcenter.environment)
        with Yard(vcenter.uri + "?endpoints=false", pki_dir=str(vcenter.directory / "pki")) as yard:
            yard.templates.apply(TemplateSpec("base", image=ImageSpec(source=SOURCE)))

            def take_count() -> int:
                count = vcenter.calls().total()
                vcenter.reset()
                return count

            _grown(book, "vCenter", yard, sizes, take_count)


def _grown(
    book: Book, hypervisor: str, yard: Yard, sizes: tuple[int, ...], take_count: Count
) -> None:
    """Measure plan, apply, observe and a run without changes for each size."""
    for size in sizes:
        spec = FleetSpec("web", "base", count=size)
        bound = LONGEST if size == LARGEST else None

        def measure_step(
            step: str,
            function: Callable[[], Any],
            size: int = size,
            bound: float | None = bound,
        ) -> None:
            begin, used = time.monotonic(), time.process_time()
            function()
            used, duration = time.process_time() - used, seconds(begin)
            book.note(f"{hypervisor}, {size}: {step}", "s", duration)
            book.note(f"{hypervisor}, {size}: {step}, processor time", "s", used, most=bound)
            book.curve(f"{hypervisor}: seconds by hosts", step, size, duration, axes=AXES)

        measure_step("plan", partial(yard.fleets.apply, spec, check=True))
        take_count()
        begin = time.monotonic()
        yard.fleets.apply(spec, timeout=3600)
        book.note(f"{hypervisor}, {size}: apply", "s", seconds(begin))
        book.note(f"{hypervisor}, {size}: calls for each host", "calls", take_count() / size)
        steps: dict[str, Callable[[], Any]] = {
            "observe": lambda: yard.context.provider.observe("stockyard"),
            "no-op": partial(yard.fleets.apply, spec),
            "reap": yard.reap,
            "inventory": yard.listing,
        }
        for step, function in steps.items():
            measure_step(step, function)
        memory = max(_memory(function) for function in steps.values())
        most = MOST_MEMORY if size == LARGEST else None
        book.note(f"{hypervisor}, {size}: memory of a step", "MiB", memory, most=most)
        yard.fleets.delete("web", timeout=3600)
    small_fleet, large_fleet = (
        f"{hypervisor}, {size}: calls for each host" for size in (10, sizes[-1])
    )
    book.ratio(large_fleet, small_fleet, most=CONSTANT)


def _memory(function: Callable[[], Any]) -> float:
    """Return the most memory in MiB that objects of Python use during a call."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
