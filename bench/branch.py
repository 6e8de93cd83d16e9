# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A branch of a running host in which a container runs: the pause of the host, the branch, and
a child until Docker answers in it, compared with ordinary forks of the same run.
"""

from __future__ import annotations

import time

from stockyard import BranchSpec, SingleSpec
from stockyard.providers.libvirt import disks, frozen
from stockyard.providers.libvirt.branches import Branches
from stockyard.providers.libvirt.switchover_process import SwitchOverProcess
from tests.helpers.machine_pauses import Pauses, session_uri

from . import floor
from .book import Book
from .engine import Engine
from .options import Options
from .real import IMAGE, opened, private_mib
from .spans import Phase, Spans, watching

PARENT, CHILD, FORK = "parent", "child", "fork"
PAUSE, BRANCH = "pause of the host: STOP to RESUME", "branch: call until frozen"
CHILD_DOCKER, FORK_DOCKER = "child: Docker over mutual TLS", "ordinary fork: Docker over mutual TLS"
CHILD_MEMORY, FORK_MEMORY = "child: private RAM when idle", "ordinary fork: private RAM when idle"
LONGEST_PAUSE, LONGEST_BRANCH, CHILD_RATIO, MEMORY_RATIO = 0.150, 6.0, 1.3, 1.5
# Phases of a host, from its reservation to the answer of Docker, and the phase of a branch.
RESERVE, ANSWER, FREEZE = "reserve", "TLS and Docker", "freeze the branch"
# Parts of these phases: of the branch, of the fork of a child, and of the end of the twin.
PARTS: tuple[Phase, ...] = (
    (disks, "empty", "create the disk of the twin"),
    (Branches, "_start", "start the twin or the child"),
    (SwitchOverProcess, "run", "copy the memory and switch over"),
    (Branches, "_freeze", "write the state"),
    (frozen, "seal_branch", "set the files read-only"),
    (Branches, "release", "end the twin"),
)
IDLE = 10.0


def measure(book: Book, options: Options) -> None:
    """Measure branches and ordinary forks alternately."""
    with opened(options.work) as (yard, _template):
        parent = yard.hosts.apply(SingleSpec(PARENT, floor.TEMPLATE)).object
        with Engine(parent) as engine:
            engine.start(IMAGE, "sleep", "100000")
        pauses = Pauses(session_uri(yard), parent.uuid)
        for _sample in range(options.samples):
            with watching() as spans:
                fork = yard.hosts.apply(SingleSpec(FORK, floor.TEMPLATE)).object
            book.note(FORK_DOCKER, "s", _until_docker(spans))
            with watching() as spans, watching(PARTS) as parts:
                child = yard.hosts.branch(BranchSpec(PARENT, (CHILD,))).object
            book.note(CHILD_DOCKER, "s", _until_docker(spans))
            book.note(BRANCH, "s", spans.taken(FREEZE), most=LONGEST_BRANCH)
            for part in dict.fromkeys(label for label, _begin, _end in parts.found):
                book.note(f"part: {part}", "s", parts.taken(part))
            book.note(PAUSE, "s", pauses.milliseconds() / 1000, most=LONGEST_PAUSE)
            time.sleep(IDLE)
            book.note(FORK_MEMORY, "MiB", private_mib(yard, fork))
            book.note(CHILD_MEMORY, "MiB", private_mib(yard, child))
            for host in (fork, child):
                yard.hosts.delete(host.name)
        book.ratio(CHILD_DOCKER, FORK_DOCKER, most=CHILD_RATIO, name="child / ordinary fork")
        book.ratio(CHILD_MEMORY, FORK_MEMORY, most=MEMORY_RATIO, name="private RAM: child / fork")


def _until_docker(spans: Spans) -> float:
    """Return the seconds from the reservation of a host until Docker answers in it."""
    begin = next(begin for label, begin, _end in spans.found if label == RESERVE)
    return spans.end_of(ANSWER) - begin
