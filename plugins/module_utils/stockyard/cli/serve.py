# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands ``stockyard serve`` and ``stockyard project``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidInput
from ..model.service import PORT, ServiceSpec
from ..paths import expand_user
from . import connection, say
from .command import JSON, TENANT, Argument, Command, Group, Option, Options
from .durations import length

if TYPE_CHECKING:
    from ..service.projects import Project, Projects

FILE = "~/.config/stockyard/projects.json"
FILE_OPTION = Option("--file", "the file of projects", FILE, metavar="FILE")
HEADINGS = ("PROJECT", "TENANT", "FLEETS", "POOLS", "MAX DURATION", "MAX LEASES", "REPORT")


def _serve(options: Options) -> int:
    from ..service.daemon import serve

    address, port = _place(options.listen)
    spec = ServiceSpec(
        socket=options.unix,
        address=address,
        port=port,
        tokens=options.projects,
        interval=length("interval", options.interval),
        reap_interval=length("reap-interval", options.reap_interval),
        grace=length("grace", options.grace),
    )
    if serve(lambda: connection.open_yard(options), spec):
        return 0
    say.err("stockyard: operations did not end in time; the next run completes them")
    # Their threads would keep the process alive.
    os._exit(1)


def _place(listen: str) -> tuple[str, int]:
    """Return the address and the port of an option."""
    if not listen:
        return "", PORT
    address, colon, port = listen.rpartition(":")
    if not colon or listen.endswith("]"):
        address, port = listen, str(PORT)
    if not port.isdecimal() or not port.isascii() or len(port) > 5:
        raise InvalidInput(f"--listen: {port} is not a port.", remedy="write ADDRESS:PORT")
    return address.removeprefix("[").removesuffix("]"), int(port)


def _add(options: Options) -> int:
    from ..service import projects

    path = expand_user(options.file)
    token = projects.new_token()
    project = projects.Project(
        options.name,
        projects.digest_of(token),
        options.tenant,
        options.fleet,
        options.pool,
        length("max-duration", options.max_duration),
        options.max_leases,
        options.report,
    )

    def edit(existing: Projects) -> Projects:
        if options.token_file:
            # The former token stays valid if the new one cannot be written.
            _write_token(expand_user(options.token_file), token)
        return existing.with_project(project)

    projects.change(path, edit)
    if options.json:
        say.data({"changed": True, **({} if options.token_file else {"token": token})})
    elif not options.token_file:
        say.out(token)
    return 0


def _write_token(path: Path, token: str) -> None:
    from ..files import write_atomic

    try:
        write_atomic(path, f"{token}\n")
    except OSError as error:
        raise InvalidInput(
            "the token cannot be written.", name=str(path), cause=str(error)
        ) from error


def _remove(options: Options) -> int:
    from ..service import projects

    path = expand_user(options.file)
    # A missing file is an error, and gets no lock.
    projects.read(path)
    projects.change(path, lambda existing: existing.without(options.name))
    if options.json:
        say.data({"changed": True})
    return 0


def _list(options: Options) -> int:
    from ..model import codec
    from ..service import projects

    items = projects.read(expand_user(options.file)).projects
    if options.json:
        facts = [codec.to_dict(item) for item in items]
        say.data([{key: fact[key] for key in fact if key != "digest"} for fact in facts])
    else:
        say.table(HEADINGS, [_row(item) for item in items])
    return 0


def _row(project: Project) -> tuple[str, ...]:
    return (
        project.name,
        project.tenant,
        " ".join(project.fleets),
        " ".join(project.pools),
        f"{project.max_duration:g}s",
        str(project.max_leases),
        "yes" if project.report else "no",
    )


SERVE = Command(
    "serve",
    "keep the yard until SIGTERM, and serve its report and leases",
    _serve,
    (
        Option("--unix", "serve a Unix socket, for this user only", metavar="PATH"),
        Option(
            "--listen",
            f"serve a loopback address (default port: {PORT})",
            metavar="ADDRESS[:PORT]",
        ),
        Option(
            "--projects",
            "the file of projects that can lease hosts; without it, no project can",
            metavar="FILE",
        ),
        Option("--interval", "the longest time between two passes over the yard", "10s"),
        Option("--reap-interval", "time between two searches for orphaned objects", "5m"),
        Option("--grace", "time after which an incomplete object counts as orphaned", "1h"),
        *connection.OPTIONS,
    ),
    opens_yard=False,
)
PROJECT = Group(
    "project",
    "manage the projects that can lease from stockyard serve",
    (
        Command(
            "add",
            "add a project, or give it a new token, and print the token",
            _add,
            (
                Argument("name", "NAME", "the name of the project"),
                Option("--fleet", "a fleet that it can lease from", many=True),
                Option("--pool", "a pool that it can lease from", many=True),
                TENANT,
                Option("--max-duration", "the longest time of a lease, with renewals", "1h"),
                Option(
                    "--max-leases",
                    "the largest number of leases and waiting requests",
                    1,
                    metavar="NUMBER",
                    kind=int,
                ),
                Option("--report", "let it read the page and the metrics", flag=True),
                Option("--token-file", "write the token to this file", metavar="FILE"),
                FILE_OPTION,
                JSON,
            ),
            opens_yard=False,
        ),
        Command(
            "remove",
            "remove a project: its token is not valid any more",
            _remove,
            (Argument("name", "NAME", "the name of the project"), FILE_OPTION, JSON),
            opens_yard=False,
        ),
        Command("ls", "list projects", _list, (FILE_OPTION, JSON), opens_yard=False),
    ),
)
