# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fork that does nothing has of RAM of its own as time passes, beside a twin booted from the
same disk.

A page of a fork is its own when the guest has written to it since the fork; all others are the
template's, once for all. A booted guest shares nothing: all that it has touched is its own.
"""

from __future__ import annotations

import time

from stockyard import HostSpec, SingleSpec, Yard

from . import floor
from .book import Book, seconds
from .engine import Engine
from .options import Options
from .real import IMAGE, in_guest, opened, private_mib, processor_seconds, wait_idle

PLOT, AXES = "RAM of its own of an idle host", ("seconds", "MiB")
PERIOD = 15.0
MOST = 0.10
TWIN = "its cold-booted twin: RAM"
# Processes by the processor time that they have taken in the guest, in seconds; the first of its
# time goes to the boot.
WHO = """
import os
found = []
for entry in os.listdir("/proc"):
    try:
        if entry.isdigit():
            text = open(f"/proc/{entry}/stat").read()
            words = text.rpartition(")")[2].split()
            found.append((int(words[11]) + int(words[12]), text.split("(")[1].split(")")[0]))
    except OSError:
        pass
print(" ".join(f"{name}:{ticks}" for ticks, name in sorted(found, reverse=True)[:12]))
"""


def measure(book: Book, options: Options) -> None:
    """The twin is booted first: while it boots, the fork would not be alone."""
    minutes = options.minutes or ((1, 5, 30) if options.full else (1,))
    with opened(options.work) as (yard, _template):
        linked = HostSpec(fork_mode="linked")
        (twin,) = yard.host(SingleSpec("twin", floor.TEMPLATE, host=linked)).objects
        begin = time.monotonic()
        (fork,) = yard.host(SingleSpec("fork", floor.TEMPLATE)).objects
        book.note("a fork that is ready: RAM of its own", "MiB", private_mib(yard, fork))
        used = processor_seconds([fork])
        for minute in minutes:
            while seconds(begin) < 60 * minute:
                wait_idle(min(PERIOD, 60 * minute - seconds(begin)))
                for line, host in (("fork", fork), ("cold-booted twin", twin)):
                    book.curve(PLOT, line, seconds(begin), private_mib(yard, host), axes=AXES)
            _compare(book, yard, minute, fork, twin)
        book.note(
            "an idle fork: of the processor",
            "cores",
            (processor_seconds([fork]) - used) / seconds(begin),
        )
        _under_load(book, yard, fork)


def _compare(
    book: Book, yard: Yard, minute: int, fork: dict[str, object], twin: dict[str, object]
) -> None:
    own = f"a fork, idle for {minute} min: RAM of its own"
    book.note(own, "MiB", private_mib(yard, fork))
    book.note(f"{TWIN} after {minute} min", "MiB", private_mib(yard, twin))
    most = MOST if minute == 5 else None
    book.ratio(
        own, f"{TWIN} after {minute} min", most=most, name=f"fork / twin, after {minute} min"
    )


def _under_load(book: Book, yard: Yard, fork: dict[str, object]) -> None:
    """Containers one after the other; then who in the guest took processor time since it was
    booted.
    """
    with Engine(fork) as engine:
        for _each in range(5):
            engine.run(IMAGE, "true")
    book.note("a fork after five containers: RAM of its own", "MiB", private_mib(yard, fork))
    book.remark(
        "processor time in the guest since its template booted (1/100 s)",
        in_guest(fork, WHO).strip(),
    )
