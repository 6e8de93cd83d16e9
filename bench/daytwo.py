# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real guests after their first day: all hosts of a fleet replaced while it serves, and hosts that
are leased.

The rebuild is one in which every host is made anew of the same template (``recreate: always``):
what a new generation costs beside it is a build, which nobody waits for.
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
LEASE, AGAIN = "a lease of a warm spare", "given back, and another host made in its place"


def measure(book: Book, options: Options) -> None:
    """Rebuild a fleet by either way, then lease of it."""
    count = 16 if options.full else 4
    with opened(options.work) as (yard, _template):
        spec = FleetSpec("web", floor.TEMPLATE, count=count, recreate="always")
        yard.fleet(spec)
        one = max(1, count // 4)
        ways = {
            "one beside them": UpdateSpec(max_surge=1, max_unavailable=0, grace=0),
            f"{one} at a time, none beside them": UpdateSpec(
                max_surge=0, max_unavailable=one, grace=0
            ),
        }
        for name, update in ways.items():
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
    before = {host["uuid"] for host in yard.hosts(fleet=spec.name)}
    with _watched(work, spec.count) as out:
        begin = time.monotonic()
        yard.fleet(spec)
        book.note(title, "s", seconds(begin))
    book.note(f"{title}: host-seconds out of service", "s", sum(out))
    if before & {host["uuid"] for host in yard.hosts(fleet=spec.name)}:
        raise RuntimeError("not every host was made anew")


@contextmanager
def _watched(work: Path, count: int) -> Iterator[list[float]]:
    """By another controller's eyes: how many hosts were missing, for how many seconds each."""
    ended, out = threading.Event(), list[float]()

    def look() -> None:
        with Yard(
            "qemu:///session", owner=OWNER, storage=str(work / "store"), pki_dir=str(work / "pki")
        ) as other:
            last = time.monotonic()
            while not ended.wait(PERIOD):
                serving = sum(h.serving for h in other.context.provider.observe(OWNER).hosts)
                now = time.monotonic()
                out.append(max(0, count - serving) * (now - last))
                last = now

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield out
    finally:
        ended.set()
        watcher.join()


def _leases(book: Book, yard: Yard, samples: int) -> None:
    for number in range(samples):
        begin = time.monotonic()
        lease = yard.lease("web", holder=f"bench-{number}", replace=True)
        book.note(LEASE, "s", seconds(begin), most=0.3)
        begin = time.monotonic()
        lease.release()
        book.note(AGAIN, "s", seconds(begin))
