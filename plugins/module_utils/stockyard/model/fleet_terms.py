# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The terms of a fleet that controllers without its declaration need."""

from __future__ import annotations

from dataclasses import dataclass

from . import naming

COUNT_MAX = 10000
LONGEST = 3650 * 86400.0


@dataclass(frozen=True)
class FleetTerms:
    """The part of a fleet's declaration that is on the records of its hosts.

    :param count: the number of hosts.
    :param min_ready: the smallest number of hosts without a lease.
    :param suspend_after: seconds without a container and without a lease after which a host is
        suspended; 0 for never.
    """

    count: int
    min_ready: int = 0
    suspend_after: float = 0.0

    def __post_init__(self) -> None:
        naming.whole("count", self.count, 0, COUNT_MAX)
        naming.whole("min_ready", self.min_ready, 0, COUNT_MAX)
        naming.moment("suspend_after", self.suspend_after)
