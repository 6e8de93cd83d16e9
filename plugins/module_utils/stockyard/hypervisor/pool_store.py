# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the port that pools need."""

from __future__ import annotations

from typing import Any, Protocol

from ..model.pool import PoolRecord


class PoolStore(Protocol):
    """The pools of a hypervisor. A host that names one is admitted by the provider when it is put
    on record.
    """

    def put(self, record: PoolRecord, *, force: bool = False) -> PoolRecord:
        """Compare and set: put a pool on record (version 0), or change it; returns it in its new
        version.

        :param force: let it be smaller than what is in it: that stays, and nothing new is let in.
        :raises Conflict: when the version on record is not the record's.
        :raises NotFound: when its parent is not there.
        :raises Refused: when it would be in itself, or smaller than what is in it.
        """

    def delete(self, record: PoolRecord) -> None:
        """Take a pool away. None there is a success.

        :raises Refused: when something is in it.
        """

    def facts(self, record: PoolRecord) -> dict[str, Any]:
        """How its limits are kept, and what is worth knowing of the machine that its hosts are on.

        ``enforced`` is ``admission`` where a pool only decides what is let in, ``resource pool``
        where the hypervisor holds what is in it to its share too; ``enforced_reason`` says why no
        more. ``available_mib`` is the memory that is left there, or ``None`` where that is not
        known.
        """
