# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands ``stockyard logs`` and ``stockyard console``: what a host wrote."""

from __future__ import annotations

import codecs
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidInput, NotFound, Unsupported
from . import say
from .command import HOST, Command, Option, Options, Program
from .select import select_host, select_running, ssh_words

if TYPE_CHECKING:
    from ..yard import Yard

PERIOD = 0.3
# The largest part of a console log that is searched for the last lines.
MOST_BYTES = 4 << 20
TENANT = Option("--tenant", "the tenant of the host")
FOLLOW = Option("--follow", "print new lines until you press Ctrl-C", flag=True, short="-f")
LINES = Option("--lines", "the number of last lines", 100, kind=int, short="-n")


def _logs(yard: Yard, options: Options) -> Program:
    count = _count(options)
    entry = select_running(yard, options.host, options.tenant)
    if options.container:
        command = ["sudo", "-n", "docker", "logs", "--tail", str(count)]
        command += ["--follow"] if options.follow else []
        command += ["--", options.container]
    else:
        command = ["sudo", "-n", "journalctl", "--no-pager", "--lines", str(count)]
        command += ["--follow"] if options.follow else []
        command += ["--unit", options.unit] if options.unit else []
    words = ssh_words(entry, "-T", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR")
    # A container decides what its log contains, and a host what its journal does.
    return Program((*words, shlex.join(command)), escapes=True)


def _console(yard: Yard, options: Options) -> int:
    count = _count(options)
    host = yard.hosts.get(*select_host(yard, options))
    if not host.console_log:
        raise Unsupported(
            "the hypervisor keeps no console log.",
            name=f"host {host.name}",
            remedy=f"read the journal with stockyard logs {host.name}",
        )
    path = Path(host.console_log)
    if not path.is_file():
        raise NotFound(
            "this machine has no such console log.",
            name=f"host {host.name}",
            cause=f"the file {path} is on the machine of the hypervisor",
            remedy="read the file there, after the first start of the host",
        )
    for line in _last_lines(path, count, options.follow):
        # The guest decides what the lines contain.
        say.out(line.rstrip("\r"))
    return 0


def _count(options: Options) -> int:
    if options.lines < 0:
        raise InvalidInput(f"--lines: {options.lines} is negative.", remedy="write 0 or more")
    return int(options.lines)


def _last_lines(path: Path, count: int, follow: bool) -> Iterator[str]:
    """Return the last lines, and if requested new lines for ever. A line that the guest does not
    end is cut, as memory is limited.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MOST_BYTES))
        *lines, partial = decoder.decode(file.read(MOST_BYTES)).split("\n")
        if partial and not follow:
            lines.append(partial)
        yield from lines[max(0, len(lines) - count) :]
        while follow:
            text = decoder.decode(file.read(MOST_BYTES))
            *lines, partial = (partial + text).split("\n")
            yield from lines
            if len(partial) > MOST_BYTES:
                yield partial
                partial = ""
            if not text:
                time.sleep(PERIOD)


LOGS = Command(
    "logs",
    "print the journal of a host, or the log of one of its containers",
    _logs,
    (
        HOST,
        Option("--container", "the container", metavar="NAME"),
        Option("--unit", "only this unit of systemd, such as docker"),
        LINES,
        FOLLOW,
        TENANT,
    ),
)
CONSOLE = Command(
    "console",
    "print the console log of a host: kernel, boot and services",
    _console,
    (HOST, LINES, FOLLOW, TENANT),
)
