# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clock of a guest, accessed without stockyard's agent: for hosts of generations whose agent
cannot set it.
"""

from __future__ import annotations

from typing import Protocol

from ..model.host import HostRecord


class GuestClock(Protocol):
    """A port that reads and sets the clocks of guests."""

    def ahead(self, record: HostRecord, now: float) -> float:
        """Return how many seconds a guest's clock is ahead of a time; less than zero if it is
        behind.

        :raises HypervisorError: if the guest does not answer.
        """

    def set(self, record: HostRecord, now: float) -> None:
        """Set a guest's clock.

        :raises HypervisorError: if the guest does not answer.
        """


class NoGuestClock:
    """A provider without access to the clocks of guests."""

    guest_clock: GuestClock | None = None
