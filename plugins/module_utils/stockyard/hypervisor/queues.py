# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the port that orders the requests which wait for one thing, on any controller."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from ..clock import Deadline


class Ticket(Protocol):
    """The place of one request in a queue."""

    def ahead(self) -> int:
        """Return the number of requests that came earlier and still wait."""


class Queues(Protocol):
    """The queues of a hypervisor. A request leaves its queue at the end of its ``with`` block, at
    its deadline, or when its controller dies.
    """

    def join(self, name: str, deadline: Deadline) -> AbstractContextManager[Ticket]:
        """Wait in a queue for the length of a ``with`` block, behind all earlier requests.

        :param name: begins with the owner and a dot; at most 100 characters.
        :param deadline: the end of the wait, by its own clock.
        """

    def length(self, name: str, now: float) -> int:
        """Return the number of requests that wait in a queue.

        :param now: the present time, in seconds since the epoch.
        """
