# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How cost grows from one host to a thousand, where no guest has to be waited for.

What is counted on the memory hypervisor are calls of the port and requests to guests; on the
simulated vCenter calls of vSphere's API, as the simulator saw them.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from stockyard import FleetSpec, ImageSpec, TemplateSpec, Yard
from stockyard.providers.open import open_provider
from tests.support import BriskClock
from tests.vcsim.simulator import SOURCE, Simulator

from .book import Book, seconds
from .counting import CountingProvider
from .options import Options

AXES = ("hosts", "seconds")
# Calls for each host of the largest fleet by those of ten: they are constant when this is 1.
CONSTANT = 1.05
Count = Callable[[], int]


def measure(book: Book, options: Options) -> None:
    """Fleets of growing size, each made of nothing."""
    sizes = (1, 10, 100, 1000) if options.full else (1, 10, 100)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        provider = CountingProvider(open_provider(f"memory://{folder}/hypervisor"))
        with Yard(
            provider=provider.as_provider(), pki_dir=f"{folder}/pki", clock=BriskClock()
        ) as yard:
            yard.template(TemplateSpec("base"))
            _grown(book, "memory", yard, sizes, lambda: provider.taken().total())
    with book.attempt("the simulated vCenter"):
        _vcenter(book, sizes)


def _vcenter(book: Book, sizes: tuple[int, ...]) -> None:
    with Simulator() as vcenter:
        os.environ.update(vcenter.environment)
        with Yard(vcenter.uri + "?endpoints=false", pki_dir=str(vcenter.directory / "pki")) as yard:
            yard.template(TemplateSpec("base", image=ImageSpec(source=SOURCE)))

            def taken() -> int:
                found = vcenter.calls().total()
                vcenter.reset()
                return found

            _grown(book, "vCenter", yard, sizes, taken)


def _grown(book: Book, where: str, yard: Yard, sizes: tuple[int, ...], taken: Count) -> None:
    """Plan, apply, observe and no-op of each size."""
    for size in sizes:
        spec = FleetSpec("web", "base", count=size)

        def timed(what: str, act: Callable[[], Any], size: int = size) -> None:
            begin = time.monotonic()
            act()
            took = seconds(begin)
            book.note(f"{where}, {size}: {what}", "s", took)
            book.curve(f"{where}: seconds by hosts", what, size, took, axes=AXES)

        timed("plan", partial(yard.fleet, spec, check=True))
        taken()
        timed("apply", partial(yard.fleet, spec, timeout=3600))
        book.note(f"{where}, {size}: calls for each host", "calls", taken() / size)
        timed("observe", lambda: yard.context.provider.observe("stockyard"))
        timed("no-op", partial(yard.fleet, spec))
        yard.remove_fleet("web", timeout=3600)
    few, many = (f"{where}, {size}: calls for each host" for size in (10, sizes[-1]))
    book.ratio(many, few, most=CONSTANT)
