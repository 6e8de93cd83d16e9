# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time of one fork of a real guest, from the call until a container has run, compared with its
components and with the tools that it replaces.

floor       bare QEMU, no libvirt and no identity: incoming, resume, until plain HTTP answers over
            a forwarded port
fork        the product: until Docker answers over mutual TLS in a host with its own identity
cold boot   the same disk booted (a linked clone), until the same: other tools use a template so
restore     a booted host that libvirt saved to a file, restored: one host, with its old identity
"""

from __future__ import annotations

import time
from pathlib import Path

from stockyard import HostInfo, HostSpec, SingleSpec, Yard
from stockyard.clock import Deadline
from stockyard.resources.hosts.docker_api import wait_for_docker

from . import floor
from .book import Book, seconds
from .engine import Engine
from .options import Options
from .real import IMAGE, opened
from .spans import Spans, watching

FLOOR, DOCKER, COLD = (
    "floor: bare QEMU answers",
    "fork: Docker over mutual TLS",
    "cold boot: Docker over mutual TLS",
)
FIRST, SECOND = "fork: first run of a container", "fork: second run of a container"
# Phases whose end marks these moments.
RESUME, ADMIT, ANSWER = "take the state in, resume", "guest: renew-certificate", "TLS and Docker"
MOMENTS = {
    "fork: resumed": RESUME,
    "fork: identity done": ADMIT,
    DOCKER: ANSWER,
}
BOUNDS = {DOCKER: 2.0}
BOOT = 900.0


def measure(book: Book, options: Options) -> None:
    """Measure forks and bare QEMU alternately, so that other work of the machine affects both."""
    with opened(options.work) as (yard, template):
        forks = []
        for _sample in range(options.samples):
            with book.attempt("floor"):
                book.note(FLOOR, "s", floor.seconds(yard, template, options.work))
            forks.append(_fork(book, yard))
        book.ratio(DOCKER, FLOOR, most=4.0, name="fork / floor")
        book.ratio(FIRST, SECOND, most=2.0, name="first run / second run")
        middle = sorted(forks, key=lambda spans: spans.end_of(ANSWER))[len(forks) // 2]
        book.timeline("fork", middle.found)
        for phase in dict.fromkeys(label for label, _begin, _end in middle.found):
            book.note(f"phase: {phase}", "s", *(spans.taken(phase) for spans in forks))
        with book.attempt("cold boot"):
            _boot(book, yard, options.work)
        book.ratio(COLD, DOCKER, name="cold boot / fork")


def _fork(book: Book, yard: Yard) -> Spans:
    """Measure one fork and containers in it."""
    with watching() as spans:
        (host,) = yard.hosts.apply(SingleSpec("sample", floor.TEMPLATE)).objects
        duration = seconds(spans.begin)
    for name, phase in MOMENTS.items():
        book.note(name, "s", spans.end_of(phase), most=BOUNDS.get(name))
    book.note("fork: the call returned", "s", duration)
    with Engine(host) as engine:
        book.note(FIRST, "s", engine.run(IMAGE, "true"))
        book.note(SECOND, "s", engine.run(IMAGE, "true"))
    begin = time.monotonic()
    yard.hosts.delete("sample")
    book.note("deletion of a host", "s", seconds(begin))
    return spans


def _boot(book: Book, yard: Yard, work: Path) -> None:
    """Measure a linked clone, its containers, and its save and restore."""
    with watching() as spans:
        (host,) = yard.hosts.apply(
            SingleSpec("booted", floor.TEMPLATE, host=HostSpec(fork_mode="linked"))
        ).objects
    book.note(COLD, "s", spans.end_of(ANSWER))
    with Engine(host) as engine:
        book.note("cold boot: first run of a container", "s", engine.run(IMAGE, "true"))
        book.note("cold boot: second run of a container", "s", engine.run(IMAGE, "true"))
    with book.attempt("save and restore"):
        _restore(book, yard, host, work / "saved")
    yard.hosts.delete("booted")


def _restore(book: Book, yard: Yard, host: HostInfo, file: Path) -> None:
    """Measure the equivalents of `virsh save` and `virsh restore`."""
    # the bench is about this provider
    connection = yard.context.provider.connection  # type: ignore[attr-defined]
    record = next(
        candidate.record
        for candidate in yard.context.provider.observe(yard.context.owner).hosts
        if candidate.record.uuid == host.uuid
    )
    begin = time.monotonic()
    connection.lookupByUUIDString(host.uuid).save(str(file))
    book.note("a booted host saved", "s", seconds(begin))
    try:
        begin = time.monotonic()
        connection.restore(str(file))
        wait_for_docker(record, Path(host.docker.environment["DOCKER_CERT_PATH"]), Deadline(BOOT))
        book.note("restore: Docker over mutual TLS", "s", seconds(begin))
        book.ratio("restore: Docker over mutual TLS", DOCKER, name="restore / fork")
    finally:
        file.unlink(missing_ok=True)
