# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clock of a guest through QEMU's own agent (qemu-guest-agent)."""

from __future__ import annotations

from ...model.host import HostRecord
from .domains import Domains
from .faults import translated

# Seconds for the agent to answer. Without this limit libvirt waits indefinitely.
PATIENCE = 5


class QemuGuestClock:
    """The clocks of the guests of one connection, to read and set."""

    def __init__(self, domains: Domains) -> None:
        self.domains = domains

    def ahead(self, record: HostRecord, now: float) -> float:
        domain = self.domains.find(record)
        with translated("read the guest's clock", record.title):
            domain.agentSetResponseTimeout(PATIENCE)
            guest_time = domain.getTime()
        return float(guest_time["seconds"] + guest_time["nseconds"] / 1e9 - now)

    def set(self, record: HostRecord, now: float) -> None:
        domain = self.domains.find(record)
        with translated("set the guest's clock", record.title):
            domain.agentSetResponseTimeout(PATIENCE)
            domain.setTime({"seconds": int(now), "nseconds": int(now % 1 * 1e9)})
