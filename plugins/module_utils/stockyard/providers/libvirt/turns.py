# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns of starting machines on this machine: one for each processor, and more while processors are
idle, because then the machines wait for something else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...clock import Deadline
from ..common.queue_files import FileQueues, FileTicket

QUEUE = "starts"
LOADAVG = Path("/proc/loadavg")
# The most turns for each processor.
MOST_FOR_EACH_PROCESSOR = 4
# Seconds between two looks by the next machine, and at most by later ones.
POLL, LONGEST_POLL = 0.05, 1.0
# The number of looks in a row that must see an idle processor: it is idle for moments only, if the
# machines compute.
IDLE_LOOKS = 6
# Seconds after which a starting machine no longer delays others: it waits for its guest.
SLOW = 15.0


class QueueTurns:
    """The turns of all controllers that use a storage directory, in order of arrival.

    :param queues: the queues of the storage directory.
    :param processors: the number of processors.
    :param runnable: returns the number of processes that use or want a processor.
    """

    def __init__(
        self, queues: FileQueues, processors: int, runnable: Callable[[], int] | None = None
    ) -> None:
        self._queues = queues
        self._processors = processors
        self._runnable = runnable or runnable_processes

    @contextmanager
    def take(self, name: str, deadline: Deadline) -> Iterator[None]:
        """Wait until a machine may start, as :class:`...hypervisor.turns.Turns` describes it."""
        joined = self._queues.join(QUEUE, deadline)
        place = _Place(joined.__enter__(), lambda: joined.__exit__(None, None, None))
        timer = threading.Timer(SLOW, place.leave)
        timer.daemon = True
        try:
            self._wait(place.ticket, name, deadline)
            timer.start()
            yield
        finally:
            timer.cancel()
            place.leave()

    def _wait(self, ticket: FileTicket, name: str, deadline: Deadline) -> None:
        idle_looks = 0
        while (ahead := ticket.ahead()) >= self._processors:
            deadline.check("the start of other machines", name=name, remedy="set a longer timeout")
            # The process that looks is not counted.
            is_idle = self._runnable() - 1 < self._processors
            idle_looks = idle_looks + 1 if is_idle else 0
            if idle_looks >= IDLE_LOOKS and ahead < self._processors * MOST_FOR_EACH_PROCESSOR:
                return
            is_next = ahead < self._processors * MOST_FOR_EACH_PROCESSOR
            deadline.pause(POLL if is_next else min(POLL * ahead, LONGEST_POLL))


class _Place:
    """A place in the queue, which is left once: when the machine has started, or when it is slow.

    :param leave: leaves the queue.
    """

    def __init__(self, ticket: FileTicket, leave: Callable[[], object]) -> None:
        self.ticket = ticket
        self._leave = leave
        self._left = threading.Lock()

    def leave(self) -> None:
        """Leave the queue, unless that has happened."""
        if self._left.acquire(blocking=False):
            self._leave()


def runnable_processes() -> int:
    """Return the number of processes that use or want a processor (proc(5), ``loadavg``); 0 if it
    cannot be read.
    """
    try:
        return int(LOADAVG.read_text(encoding="ascii").split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return 0
