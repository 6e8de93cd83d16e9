# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the port that limits how many machines start at once, for all controllers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from ..clock import Deadline


class Turns(Protocol):
    """The turns of machines that start. Machines that start together on too few processors are all
    ready late; in turns, the first ones are ready early, and the last ones no later.
    """

    def take(self, name: str, deadline: Deadline) -> AbstractContextManager[None]:
        """Wait until a machine may start, and start it in a ``with`` block.

        :param name: the machine, for errors.
        :raises DeadlineExceeded: if its turn does not come in time.
        """


class Unlimited:
    """Turns that come at once: the hypervisor queues requests itself."""

    def take(self, name: str, deadline: Deadline) -> AbstractContextManager[None]:
        return nullcontext()
