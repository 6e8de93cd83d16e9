# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many forks of real guests: the time of each when many are created together, and their cost when
they are idle.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from stockyard import FleetSpec, HostInfo, SingleSpec, Yard

from . import floor
from .book import Book, seconds
from .engine import Engine
from .options import Options
from .real import IMAGE, opened, private_mib, processor_seconds, wait_idle

FLEET = "many"
# Seconds until new forks are idle, and seconds for which they are measured then.
SETTLE, WATCH = 15.0, 20.0
BUSY = 16
EACH_OF_16, CORES_OF_32, GROWTH = 2.0, 1.0, 1.5


def measure(book: Book, options: Options) -> None:
    """Measure new fleets of growing size, then one more host while all hosts of a fleet are
    busy.
    """
    sizes = (1, 2, 4, 8, 16, 32) if options.full else (1, 4, 16)
    with opened(options.work) as (yard, _template):
        for size in sizes:
            _fleet(book, yard, size)
            if size == BUSY and options.full:
                with book.attempt("one more host while others are busy"):
                    _one_more(book, yard)
            yard.fleets.delete(FLEET)
    book.ratio(_each(32), _each(4), most=GROWTH)


def _each(size: int) -> str:
    return f"{size} forks by one task: each"


def _fleet(book: Book, yard: Yard, size: int) -> None:
    begin = time.monotonic()
    hosts = list(yard.fleets.apply(FleetSpec(FLEET, floor.TEMPLATE, count=size)).objects)
    duration = seconds(begin) / size
    book.note(_each(size), "s", duration, most=EACH_OF_16 if size == 16 else None)
    book.curve("Time for each fork", "by one task", size, duration, axes=("forks", "seconds"))
    wait_idle(SETTLE)
    before, begin = processor_seconds(hosts), time.monotonic()
    wait_idle(WATCH)
    cores = (processor_seconds(hosts) - before) / seconds(begin)
    book.note(
        f"{size} idle forks: of the processor",
        "cores",
        cores,
        most=CORES_OF_32 if size == 32 else None,
    )
    book.curve(
        "Processor that idle forks take", "all of them", size, cores, axes=("forks", "cores")
    )
    private = [private_mib(yard, host) for host in hosts]
    book.note(f"{size} idle forks: RAM of its own of each", "MiB", *private)
    book.curve(
        "RAM of their own of idle forks", "all of them", size, sum(private), axes=("forks", "MiB")
    )


def _one_more(book: Book, yard: Yard) -> None:
    """Run a busy container in every host, then create one more host."""
    with ThreadPoolExecutor(BUSY) as pool:
        # All start together, because each start would take longer while others are busy.
        list(pool.map(_busy, yard.hosts.list(fleet=FLEET)))
    begin = time.monotonic()
    yard.hosts.apply(SingleSpec("one-more", floor.TEMPLATE))
    book.note(f"one more while {BUSY} are busy", "s", seconds(begin))
    yard.hosts.delete("one-more")


def _busy(host: HostInfo) -> None:
    with Engine(host) as engine:
        engine.start(IMAGE, "sh", "-c", "while :; do :; done")
