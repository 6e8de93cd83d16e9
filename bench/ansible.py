# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cost of Ansible, on the memory hypervisor: no guest takes time there, so that all of the time
belongs to Ansible and stockyard.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from stockyard import FleetSpec, TemplateSpec

from .book import Book, seconds
from .options import Options
from .playing import DEBUG, OURS, PING, Player, player

SITE = "stockyard.container_hosts.site"
HOSTS = {"red": 20, "green": 20, "blue": 10}
NOTHING = "an empty play"
NO_OP, AS_MANY = "a site that is as declared: 3 templates, 50 hosts", "as many empty tasks"
LEASE, SDK_LEASE = "a lease by the module", "a lease of a warm spare, by the SDK"
LEASES = 20


def measure(book: Book, options: Options) -> None:
    """Measure all subjects of this file, each in turn with its reference."""
    with player() as user:
        _site(book, user, options)
    with player() as user:
        _fleet(book, user, options)
    with player() as user:
        _lease(book, user, options)
    with player() as user:
        _inventory(book, user, options)


def _site(book: Book, user: Player, options: Options) -> None:
    """Measure a play without changes, compared with a play of empty tasks of the same number and
    kinds.
    """
    declared = user.home / "mine.yml"
    fleets = [{"name": name, "template": name, "count": count} for name, count in HOSTS.items()]
    declared.write_text(
        json.dumps({"yard_templates": [{"name": name} for name in HOSTS], "yard_fleets": fleets})
    )
    user.seconds(SITE, "-e", f"yard={declared}")
    process = user.run(SITE, "-e", f"yard={declared}")
    tasks = [
        PING if f"{OURS}yard : Converge the yard" in name else DEBUG for name in process.results
    ]
    empty, empty_play = user.empty(tasks), user.empty([])
    for _sample in range(options.samples):
        book.note(NO_OP, "s", user.seconds(SITE, "-e", f"yard={declared}"))
        book.note(f"{AS_MANY} ({len(tasks)})", "s", user.seconds(empty))
        book.note(NOTHING, "s", user.seconds(empty_play))
    above = book.figures[NO_OP].median - book.figures[f"{AS_MANY} ({len(tasks)})"].median
    book.note("the site above the empty tasks", "s", above, most=1.0)


def _fleet(book: Book, user: Player, options: Options) -> None:
    """Measure the creation of hosts by one task, and by one task for each host."""
    count = 50 if options.full else 10
    with user.yard() as yard:
        yard.templates.apply(TemplateSpec("docker"))
    fleet_task = {
        "name": "One for all",
        f"{OURS}fleet": {"name": "web", "template": "docker", "count": count},
    }
    loop = [f"single-{number}" for number in range(count)]
    host_task = {
        "name": "One each",
        f"{OURS}host": {"name": "{{ item }}", "template": "docker"},
        "loop": loop,
    }
    fleet_play, host_play = (user.root / f"{name}.yml" for name in ("one", "each"))
    for path, task in ((fleet_play, fleet_task), (host_play, host_task)):
        path.write_text(
            json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}])
        )
    book.note(f"{count} hosts by one task", "s", user.seconds(fleet_play))
    book.note(f"{count} hosts by a task each", "s", user.seconds(host_play))
    book.ratio(f"{count} hosts by one task", f"{count} hosts by a task each")


def _lease(book: Book, user: Player, options: Options) -> None:
    """Measure the lease of a ready host by the SDK, and by a play with one task compared with an
    empty play.
    """
    with user.yard() as yard:
        yard.templates.apply(TemplateSpec("docker"))
        yard.fleets.apply(FleetSpec("ci", "docker", count=LEASES + options.samples))
        for number in range(LEASES):
            begin = time.monotonic()
            yard.leases.acquire("ci", holder=f"sdk-{number}")
            book.note(SDK_LEASE, "s", seconds(begin), most=0.3)
    empty_play = user.empty([])
    for number in range(options.samples):
        book.note(LEASE, "s", user.seconds(_taking(user, number)))
        book.note("an empty play in the same run", "s", user.seconds(empty_play))
    above = book.figures[LEASE].median - book.figures["an empty play in the same run"].median
    book.note("the lease above the empty play", "s", above, most=1.5)


def _taking(user: Player, number: int) -> Path:
    task = {"name": "Take a host", f"{OURS}lease": {"fleet": "ci", "holder": f"play-{number}"}}
    return user.write([task], ignore_errors=False)


def _inventory(book: Book, user: Player, options: Options) -> None:
    """Measure the inventory of a thousand hosts, compared with that of none."""
    for count in (0, 1000):
        user.fill(count)
    for _sample in range(min(options.samples, 5)):
        book.note("an inventory of none", "s", user.inventory_seconds(0))
        book.note("an inventory of 1,000", "s", user.inventory_seconds(1000))
    above = (
        book.figures["an inventory of 1,000"].median - book.figures["an inventory of none"].median
    )
    book.note("1,000 hosts above none", "s", above)
