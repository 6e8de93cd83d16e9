# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Queues in the directory of the locks: a file for each request, locked while its controller
lives.

The numbers of the files give the order. They are drawn under the lock of the queue, and begin with
1 again after the last request has left. A file also contains the end of its wait: a controller that
is stopped, such as a suspended laptop, does not block other requests longer than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...clock import Clock, Deadline
from .locks import held, is_held

# Seconds for a request to join: others join at the same time.
JOINING = 30.0
DIGITS = 12


@dataclass(frozen=True)
class FileTicket:
    """The place of a request, as :class:`...hypervisor.queues.Ticket` describes it."""

    queues: FileQueues
    name: str
    number: int
    clock: Clock

    def ahead(self) -> int:
        return self.queues.count(self.name, self.clock.now(), self.number)


class FileQueues:
    """The queues of a hypervisor with files, as :class:`...hypervisor.queues.Queues` describes
    them.

    :param folder: returns the directory of the locks.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder

    @contextmanager
    def join(self, name: str, deadline: Deadline) -> Iterator[FileTicket]:
        folder, clock = self._folder(), deadline.clock
        joining = Deadline(JOINING, clock)
        until = f"{clock.now() + deadline.left():.3f}"
        with held(folder, f"{name}.joining", joining):
            number = max((number for number, _path in self._files(name)), default=0) + 1
            ticket = held(folder, _title(name, number), joining, text=until)
            ticket.__enter__()
        try:
            yield FileTicket(self, name, number, clock)
        finally:
            ticket.__exit__(None, None, None)

    def length(self, name: str, now: float) -> int:
        return self.count(name, now)

    def count(self, name: str, now: float, before: int | None = None) -> int:
        """Return the number of requests that wait, or of those before a number."""
        return sum(
            (before is None or number < before) and is_held(path) and _waits(path, now)
            for number, path in self._files(name)
        )

    def _files(self, name: str) -> list[tuple[int, Path]]:
        entries = []
        for path in self._folder().glob(f"{name}.*.lock"):
            number = path.name.removeprefix(f"{name}.").removesuffix(".lock")
            if number.isdecimal():
                entries.append((int(number), path))
        return entries


def _title(name: str, number: int) -> str:
    return f"{name}.{number:0{DIGITS}d}"


def _waits(path: Path, now: float) -> bool:
    """Return whether the wait of a request has not ended. A request that just joined waits."""
    try:
        return float(path.read_text(encoding="ascii") or "inf") > now
    except (OSError, ValueError):
        return True
