# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations on real guests after the first day: replacement of all hosts of a fleet while it
serves, and leases.

The rebuild replaces every host by one from the same template (``recreate: always``). A new
generation additionally needs a build, during which the fleet still serves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from stockyard import FleetSpec, UpdateSpec, Yard

from . import floor
from .book import Book, seconds
from .options import Options
from .real import OWNER, opened

PERIOD = 0.25
LEASE, AGAIN = "a lease of a warm spare", "release, and a new host in its place"


def measure(book: Book, options: Options) -> None:
    """Measure the rebuild of a fleet in both ways, then leases."""
    count = 16 if options.full else 4
    with opened(options.work) as (yard, _template):
        spec = FleetSpec("web", floor.TEMPLATE, count=count, recreate="always")
        yard.fleets.apply(spec)
        batch = max(1, count // 4)
        strategies = {
            "one additional host": UpdateSpec(max_surge=1, max_unavailable=0, grace=0),
            f"{batch} at a time, no additional host": UpdateSpec(
                max_surge=0, max_unavailable=batch, grace=0
            ),
        }
        for name, update in strategies.items():
            with book.attempt(f"rebuild, {name}"):
                _rebuild(
                    book,
                    yard,
                    options.work,
                    replace(spec, update=update),
                    f"rebuild of {count}, {name}",
                )
        with book.attempt("leases"):
            _leases(book, yard, min(options.samples, count))


def _rebuild(book: Book, yard: Yard, work: Path, spec: FleetSpec, title: str) -> None:
    before = {host.uuid for host in yard.hosts.list(fleet=spec.name)}
    with _watched(work, spec.count) as out:
        begin = time.monotonic()
        yard.fleets.apply(spec)
        book.note(title, "s", seconds(begin))
    book.note(f"{title}: host-seconds out of service", "s", sum(out))
    if before & {host.uuid for host in yard.hosts.list(fleet=spec.name)}:
        raise RuntimeError("not every host was replaced")


@contextmanager
def _watched(work: Path, count: int) -> Iterator[list[float]]:
    """Yield a list, and add to it the host-seconds out of service, as another controller observes
    them.
    """
    ended, out = threading.Event(), list[float]()

    def watch() -> None:
        with Yard(
            "qemu:///session", owner=OWNER, storage=str(work / "store"), pki_dir=str(work / "pki")
        ) as observer:
            last = time.monotonic()
            while not ended.wait(PERIOD):
                serving = sum(
                    host.serving for host in observer.context.provider.observe(OWNER).hosts
                )
                current = time.monotonic()
                out.append(max(0, count - serving) * (current - last))
                last = current

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield out
    finally:
        ended.set()
        watcher.join()


def _leases(book: Book, yard: Yard, samples: int) -> None:
    for number in range(samples):
        begin = time.monotonic()
        lease = yard.leases.acquire("web", holder=f"bench-{number}", replace=True)
        book.note(LEASE, "s", seconds(begin), most=0.3)
        begin = time.monotonic()
        lease.release()
        book.note(AGAIN, "s", seconds(begin))
