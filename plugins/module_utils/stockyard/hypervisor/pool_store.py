# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the port that manages pools."""

from __future__ import annotations

from typing import Protocol

from ..model.pool import PoolRecord
from .facts import PoolFacts


class PoolStore(Protocol):
    """The pools of a hypervisor. The provider checks the quota of a host's pool when it records the
    host.
    """

    def put(self, record: PoolRecord, *, force: bool = False) -> PoolRecord:
        """Compare and set: record a pool (version 0), or change it; return it in its new version.

        :param force: allow limits below the present use: the hosts stay, and no new host is created
            in the pool.
        :raises Conflict: if the version on record is not the record's.
        :raises NotFound: if its parent does not exist.
        :raises OperationRefused: if it would be in itself, or smaller than its present use.
        """

    def delete(self, record: PoolRecord) -> None:
        """Delete a pool. A missing pool is a success.

        :raises OperationRefused: if the pool is not empty.
        """

    def facts(self, record: PoolRecord) -> PoolFacts:
        """Return how the limits of a pool are enforced, and the memory that remains."""
