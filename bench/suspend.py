# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time of the suspension and the resume of a real host with a running container, and the disk space
that its memory uses.
"""

from __future__ import annotations

import time

from stockyard import HostInfo, SingleSpec, Yard
from stockyard.providers.libvirt.suspend import saves_folder

from . import floor
from .book import Book, seconds
from .engine import Engine
from .options import Options
from .real import IMAGE, opened
from .spans import Spans, watching

SUSPEND, RESUME = "suspend", "resume: Docker over mutual TLS"
ANSWER = "TLS and Docker"
BOUND = 1.5


def measure(book: Book, options: Options) -> None:
    """Measure forks, suspensions and resumes."""
    with opened(options.work) as (yard, _template):
        with watching() as spans:
            (host,) = yard.hosts.apply(SingleSpec("sample", floor.TEMPLATE)).objects
        book.note("fork: Docker over mutual TLS", "s", spans.end_of(ANSWER))
        with Engine(host) as engine:
            engine.start(IMAGE, "sleep", "86400")
        for _sample in range(options.samples):
            spans = _cycle(book, yard, host)
        book.timeline("resume", spans.found)
        book.ratio(RESUME, "fork: Docker over mutual TLS", name="resume / fork")
        yard.hosts.delete("sample")


def _cycle(book: Book, yard: Yard, host: HostInfo) -> Spans:
    """Measure one suspension and one resume; return the phases of the resume."""
    begin = time.monotonic()
    yard.hosts.suspend(host.name)
    book.note(SUSPEND, "s", seconds(begin))
    provider = yard.context.provider
    # the bench is about this provider
    folder = saves_folder(provider.session)  # type: ignore[attr-defined]
    (file,) = folder.glob(f"*.{host.name}.save")
    book.note("saved memory", "MiB", file.stat().st_blocks * 512 / (1 << 20))
    with watching() as spans:
        yard.hosts.resume(host.name)
        duration = seconds(spans.begin)
    book.note(RESUME, "s", spans.end_of(ANSWER), most=BOUND)
    book.note("resume: the call returned", "s", duration)
    for phase in dict.fromkeys(label for label, _begin, _end in spans.found):
        book.note(f"phase: {phase}", "s", spans.taken(phase))
    return spans
