# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time of a derived template with one more package and one preloaded image, and its forks compared
with those of its parent.
"""

from __future__ import annotations

import io
import tarfile
import time
from pathlib import Path

from stockyard import ImageSpec, SingleSpec, TemplateSpec, Yard
from stockyard.model.preload import Preload
from stockyard.providers.libvirt import disks, fork, frozen
from stockyard.providers.libvirt.channel import SocketChannel
from stockyard.providers.libvirt.provider import LibvirtProvider
from stockyard.resources.templates import derive_template

from . import floor
from .book import Book, seconds
from .options import Options
from .real import opened
from .spans import Phase, watching
from .start import ANSWER

NAME = "bench-derived"
APT = ("fetch the packages", "install the packages")
DOCKER = "guest: prepare"
PHASES: tuple[Phase, ...] = (
    (frozen, "verify", "check the parent's files"),
    (disks, "copy", "copy memory and disk"),
    (LibvirtProvider, "_create_paused", "create the machine"),
    (fork, "resume", "take the state in, resume"),
    (LibvirtProvider, "fetch_difference", APT[0]),
    (derive_template, "_install", APT[1]),
    (SocketChannel, "request", "guest"),
    (LibvirtProvider, "freeze", "freeze"),
)
WHOLE, OWN = "derive: whole", "derive: without apt and Docker"
PARENT, CHILD = "fork of the parent", "fork of the derived template"


def measure(book: Book, options: Options) -> None:
    """Measure derivations, then forks of parent and child alternately."""
    with opened(options.work) as (yard, _template):
        spec = _spec(options.work)
        try:
            for _sample in range(options.samples):
                yard.templates.delete(NAME)
                _derive(book, yard, spec)
            for _sample in range(options.samples):
                book.note(PARENT, "s", _fork(yard, floor.TEMPLATE))
                book.note(CHILD, "s", _fork(yard, NAME))
            book.ratio(CHILD, PARENT, most=1.1, name="fork of derived / fork of parent")
        finally:
            yard.templates.delete(NAME)


def _spec(work: Path) -> TemplateSpec:
    """Return a derived template with one small package and an image of a few MiB."""
    rootfs = work / "derived.tar"
    with tarfile.open(rootfs, "w") as archive:
        entry = tarfile.TarInfo("data")
        entry.size = 8 << 20
        archive.addfile(entry, io.BytesIO(bytes(range(256)) * (entry.size // 256)))
    preload = (Preload("rootfs", str(rootfs), "derived:1"),)
    return TemplateSpec(
        NAME, parent=floor.TEMPLATE, image=ImageSpec(packages=("tree",), preload=preload)
    )


def _derive(book: Book, yard: Yard, spec: TemplateSpec) -> None:
    with watching(PHASES) as spans:
        yard.templates.apply(spec)
        duration = seconds(spans.begin)
    book.note(WHOLE, "s", duration)
    external_seconds = sum(spans.taken(label) for label in (*APT, DOCKER))
    book.note(OWN, "s", duration - external_seconds, most=20.0)
    for phase in dict.fromkeys(label for label, _begin, _end in spans.found):
        book.note(f"phase: {phase}", "s", spans.taken(phase))


def _fork(yard: Yard, template: str) -> float:
    """Return the seconds until Docker answers in a fork of a template."""
    with watching() as spans:
        yard.hosts.apply(SingleSpec("derived-sample", template))
    duration = spans.end_of(ANSWER)
    yard.hosts.delete("derived-sample")
    time.sleep(1)
    return duration
