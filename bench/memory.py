# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private RAM of an idle fork over time, compared with a twin that booted from the same disk.

A page of a fork is private if the guest has written to it since the fork; all other pages are the
template's and exist once. A booted guest shares no pages: every page that it has touched is
private.
"""

from __future__ import annotations

import time

from stockyard import HostInfo, HostSpec, SingleSpec, Yard

from . import floor
from .book import Book, seconds
from .engine import Engine
from .options import Options
from .real import IMAGE, in_guest, opened, private_mib, processor_seconds, wait_idle

PLOT, AXES = "RAM of its own of an idle host", ("seconds", "MiB")
PERIOD = 15.0
MOST = 0.10
TWIN = "its cold-booted twin: RAM"
# Program that prints the guest's processes by their processor time, in clock ticks. The time
# includes the boot.
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
    """Measure a fork and its twin. The twin boots first, because its boot would disturb the
    fork.
    """
    minutes = options.minutes or ((1, 5, 30) if options.full else (1,))
    with opened(options.work) as (yard, _template):
        linked = HostSpec(fork_mode="linked")
        (twin,) = yard.hosts.apply(SingleSpec("twin", floor.TEMPLATE, host=linked)).objects
        begin = time.monotonic()
        (fork,) = yard.hosts.apply(SingleSpec("fork", floor.TEMPLATE)).objects
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


def _compare(book: Book, yard: Yard, minute: int, fork: HostInfo, twin: HostInfo) -> None:
    private = f"a fork, idle for {minute} min: RAM of its own"
    book.note(private, "MiB", private_mib(yard, fork))
    book.note(f"{TWIN} after {minute} min", "MiB", private_mib(yard, twin))
    bound = MOST if minute == 5 else None
    book.ratio(
        private, f"{TWIN} after {minute} min", most=bound, name=f"fork / twin, after {minute} min"
    )


def _under_load(book: Book, yard: Yard, fork: HostInfo) -> None:
    """Run containers one after the other, then list the processes of the guest by their processor
    time since boot.
    """
    with Engine(fork) as engine:
        for _run in range(5):
            engine.run(IMAGE, "true")
    book.note("a fork after five containers: RAM of its own", "MiB", private_mib(yard, fork))
    book.remark(
        "processor time in the guest since its template booted (1/100 s)",
        in_guest(fork, WHO).strip(),
    )
