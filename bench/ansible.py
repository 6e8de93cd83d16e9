# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible adds, on the memory hypervisor: there is no guest to wait for, so all of it is
Ansible's and ours.
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
    """All of it; each in turn with what it is held against."""
    with player() as user:
        _site(book, user, options)
    with player() as user:
        _fleet(book, user, options)
    with player() as user:
        _lease(book, user, options)
    with player() as user:
        _inventory(book, user, options)


def _site(book: Book, user: Player, options: Options) -> None:
    """A play that finds all as declared, beside one of empty tasks: as many, and of the
    same kinds.
    """
    declared = user.home / "mine.yml"
    fleets = [{"name": name, "template": name, "count": count} for name, count in HOSTS.items()]
    declared.write_text(
        json.dumps({"yard_templates": [{"name": name} for name in HOSTS], "yard_fleets": fleets})
    )
    user.seconds(SITE, "-e", f"yard={declared}")
    played = user.run(SITE, "-e", f"yard={declared}")
    tasks = [
        PING if f"{OURS}yard : Converge the yard" in name else DEBUG for name in played.results
    ]
    empty, nothing = user.empty(tasks), user.empty([])
    for _sample in range(options.samples):
        book.note(NO_OP, "s", user.seconds(SITE, "-e", f"yard={declared}"))
        book.note(f"{AS_MANY} ({len(tasks)})", "s", user.seconds(empty))
        book.note(NOTHING, "s", user.seconds(nothing))
    above = book.figures[NO_OP].median - book.figures[f"{AS_MANY} ({len(tasks)})"].median
    book.note("the site above the empty tasks", "s", above, most=1.0)


def _fleet(book: Book, user: Player, options: Options) -> None:
    """Hosts by one task, and by a task each."""
    count = 50 if options.full else 10
    with user.yard() as yard:
        yard.template(TemplateSpec("docker"))
    one = {
        "name": "One for all",
        f"{OURS}fleet": {"name": "web", "template": "docker", "count": count},
    }
    loop = [f"single-{number}" for number in range(count)]
    each = {
        "name": "One each",
        f"{OURS}host": {"name": "{{ item }}", "template": "docker"},
        "loop": loop,
    }
    by_one, by_each = (user.root / f"{name}.yml" for name in ("one", "each"))
    for path, task in ((by_one, one), (by_each, each)):
        path.write_text(
            json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}])
        )
    book.note(f"{count} hosts by one task", "s", user.seconds(by_one))
    book.note(f"{count} hosts by a task each", "s", user.seconds(by_each))
    book.ratio(f"{count} hosts by one task", f"{count} hosts by a task each")


def _lease(book: Book, user: Player, options: Options) -> None:
    """A host that is ready is taken: by the SDK, and by a play of one task beside an empty one."""
    with user.yard() as yard:
        yard.template(TemplateSpec("docker"))
        yard.fleet(FleetSpec("ci", "docker", count=LEASES + options.samples))
        for number in range(LEASES):
            begin = time.monotonic()
            yard.lease("ci", holder=f"sdk-{number}")
            book.note(SDK_LEASE, "s", seconds(begin), most=0.3)
    nothing = user.empty([])
    for number in range(options.samples):
        book.note(LEASE, "s", user.seconds(_taking(user, number)))
        book.note("an empty play beside it", "s", user.seconds(nothing))
    above = book.figures[LEASE].median - book.figures["an empty play beside it"].median
    book.note("the lease above the empty play", "s", above, most=1.5)


def _taking(user: Player, number: int) -> Path:
    task = {"name": "Take a host", f"{OURS}lease": {"fleet": "ci", "holder": f"play-{number}"}}
    return user.write([task], ignore_errors=False)


def _inventory(book: Book, user: Player, options: Options) -> None:
    """A thousand hosts listed, beside none."""
    for count in (0, 1000):
        user.fill(count)
    for _sample in range(min(options.samples, 5)):
        book.note("an inventory of none", "s", user.inventory_seconds(0))
        book.note("an inventory of 1,000", "s", user.inventory_seconds(1000))
    above = (
        book.figures["an inventory of 1,000"].median - book.figures["an inventory of none"].median
    )
    book.note("1,000 hosts above none", "s", above)
