# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time until a host is ready with each egress that has an uplink, compared with a host that has
none. The hosts are created alternately, so that other work of the machine affects all.
"""

from __future__ import annotations

import time

from stockyard import HostSpec, SingleSpec, Yard

from . import floor
from .book import Book, seconds
from .options import Options
from .real import opened

READY = "ready with egress {}"
SPECS = {
    "none": HostSpec(),
    "open": HostSpec(egress="open"),
    "allow": HostSpec(egress="allow", egress_allow=("*.example.org", "registry.example.com:5000")),
}
# The largest acceptable ratio to a host without egress.
MOST = 1.1


def measure(book: Book, options: Options) -> None:
    """Create and delete hosts with each egress in turn."""
    with opened(options.work) as (yard, _template):
        for _sample in range(options.samples):
            for egress, spec in SPECS.items():
                with book.attempt(egress):
                    book.note(READY.format(egress), "s", _time_to_ready(yard, spec))
    for egress in ("open", "allow"):
        upper, lower = READY.format(egress), READY.format("none")
        book.ratio(upper, lower, most=MOST, name=f"ready: {egress} / none")


def _time_to_ready(yard: Yard, spec: HostSpec) -> float:
    begin = time.monotonic()
    yard.hosts.apply(SingleSpec("sample", floor.TEMPLATE, host=spec))
    duration = seconds(begin)
    yard.hosts.delete("sample")
    return duration
