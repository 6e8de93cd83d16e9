# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time from the call that creates a machine until the first command in it has ended: one after the
other, staggered, and in bursts. Public benchmarks of sandboxes measure the same.

ssh         a new host, and ``true`` over SSH
docker      a new host, and ``true`` in a container
endpoint    ``docker run`` of ``true`` at an endpoint, which creates the machine
"""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeAlias

from stockyard import EndpointSpec, HostInfo, SingleSpec, Yard
from tests.e2e.conftest import ssh

from .book import Book, seconds
from .docker_run import Connect, run
from .endpoint import CRUN, serving
from .engine import Engine
from .options import Options
from .real import IMAGE, OWNER, opened, private_mib

NAME, ENDPOINT, IMAGES = "compute", "runs", "images"
# Seconds from one call to the next of the staggered measurement.
STAGGER = 0.2
BURSTS, SHORT_BURSTS, ENDPOINT_BURSTS = (10, 30, 100), (10,), (10,)
# Seconds for one machine: a burst of 100 shares the cores.
PATIENCE = 900.0
AXES = ("machines at once", "seconds")
PLOT = "From the call to the first command"
PERCENTILES = (50, 95, 99)
# Creates a machine with a number and runs the first command in it.
Create: TypeAlias = Callable[[int], None]
Command: TypeAlias = Callable[[HostInfo], None]


def measure(book: Book, options: Options) -> None:
    """Measure machines with each kind of first command."""
    bursts = BURSTS if options.full else SHORT_BURSTS
    with opened(options.work) as (yard, _template):
        yard.templates.apply(CRUN)
        for kind, command in (("ssh", _login), ("docker", _container)):
            create = partial(_create_host, options.work, command)
            _measure_kind(book, yard, kind, create, options.samples, bursts)
        spec = EndpointSpec(ENDPOINT, IMAGES, CRUN.name, socket="/run/not-served.sock")
        yard.endpoints.apply(spec)
        with book.attempt("endpoint"), serving(yard, spec) as connect:
            # This run branches the image host.
            _run(connect, 0)
            create = partial(_run, connect)
            _measure_kind(book, yard, "endpoint", create, options.samples, ENDPOINT_BURSTS)
        yard.endpoints.delete(ENDPOINT)


def _measure_kind(
    book: Book, yard: Yard, kind: str, create: Create, samples: int, bursts: tuple[int, ...]
) -> None:
    modes: list[tuple[str, int, float | None]] = [
        ("one after the other", samples, None),
        (f"one each {STAGGER:g} s", samples, STAGGER),
        *((f"{size} at once", size, 0.0) for size in bursts),
    ]
    for mode, count, pause in modes:
        title = f"{kind}, {mode}"
        with book.attempt(title):
            try:
                measure_calls(book, title, create, count, pause)
                if pause == 0.0:
                    middle = book.figures[f"{title}: p50"].median
                    book.curve(PLOT, kind, count, middle, axes=AXES)
                memory = [private_mib(yard, host) for host in _created(yard)]
                if memory:
                    book.note(f"{title}: private RAM", "MiB", *memory)
            finally:
                _delete(yard)


def measure_calls(book: Book, title: str, create: Create, count: int, pause: float | None) -> None:
    """Measure machines, each from its own call.

    :param pause: seconds between two calls; ``None`` to wait for the former machine.
    """
    durations: list[float] = []
    errors: list[str] = []

    def measure_one(number: int) -> None:
        begin = time.monotonic()
        try:
            create(number)
        except Exception as error:  # noqa: BLE001  # a failure is a result
            errors.append(f"{type(error).__name__}: {error}")
        else:
            durations.append(seconds(begin))

    begin = time.monotonic()
    with ThreadPoolExecutor(1 if pause is None else count) as pool:
        for number in range(count):
            pool.submit(measure_one, number)
            time.sleep(pause or 0.0)
    book.note(f"{title}: all {count}", "s", seconds(begin))
    book.note(f"{title}: failures", "", len(errors), most=0)
    if errors:
        book.remark(f"{title}: the first failure", errors[0])
    for percent in PERCENTILES if durations else ():
        book.note(f"{title}: p{percent}", "s", percentile(durations, percent))


def percentile(values: list[float], percent: int) -> float:
    """Return the smallest value that at least so many percent of the values do not exceed."""
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(rank, 1) - 1]


def _create_host(work: Path, command: Command, number: int) -> None:
    """Create a host as a separate controller does, and run the first command in it."""
    with Yard(
        "qemu:///session", owner=OWNER, storage=str(work / "store"), pki_dir=str(work / "pki")
    ) as yard:
        spec = SingleSpec(f"{NAME}-{number}", CRUN.name)
        host = yard.hosts.apply(spec, timeout=PATIENCE).object
    command(host)


def _login(host: HostInfo) -> None:
    process = ssh(host, "true", timeout=PATIENCE)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "true", stderr=process.stderr)


def _container(host: HostInfo) -> None:
    with Engine(host) as engine:
        engine.run(IMAGE, "true")


def _run(connect: Connect, _number: int) -> None:
    run(connect, IMAGE, "true")


def _created(yard: Yard) -> list[HostInfo]:
    return [host for host in yard.hosts.list() if host.name.startswith(f"{NAME}-")]


def _delete(yard: Yard) -> None:
    hosts = _created(yard)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(yard.hosts.delete, [host.name for host in hosts]))
