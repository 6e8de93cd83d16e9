# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for branches: the frozen states of hosts that continue to run."""

from __future__ import annotations

from typing import Protocol

from ..clock import Deadline
from ..model.branch import BranchRecord
from ..model.host import HostRecord
from ..model.template import TemplateRecord


class BranchStore(Protocol):
    """The branches of one hypervisor."""

    def all(self) -> list[BranchRecord]:
        """Return the record of every branch, of any owner."""

    def create(
        self, host: HostRecord, template: TemplateRecord, current_time: float, deadline: Deadline
    ) -> BranchRecord:
        """Branch a running host. The host continues, whatever happens.

        :param template: the template of the host.
        :raises StockyardError: if the host cannot be branched, with the reason. Nothing is left.
        """

    def fork(self, host: HostRecord, branch: BranchRecord, deadline: Deadline) -> None:
        """Create the machine of a reserved host from a branch and start it, its network link down.
        The record of the host names the branch.
        """

    def release(self, record: BranchRecord) -> None:
        """Delete a branch, or mark it for deletion together with the last host that was forked
        from it.
        """

    def prune(self, owner: str) -> None:
        """Delete released branches without hosts, and branches whose controller died."""
