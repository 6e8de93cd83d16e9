# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pools of one libvirt connection: records next to the store, and facts about the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...clock import Deadline
from ...hypervisor.facts import PoolFacts
from ...model.host import HostRecord
from ..common.pool_files import FilePoolStore
from .domains import Domains
from .store import Store

MEMINFO = Path("/proc/meminfo")
LOCK_WAIT = 60.0
SESSION = "an ordinary user's libvirt may not limit a group of machines"
SYSTEM = "libvirt limits single machines, and no group of them"


def book(store: Store, domains: Domains, uri: str) -> FilePoolStore:
    """Return the pool store of a storage directory, with the lock under which hosts are
    reserved.
    """

    @contextmanager
    def guard() -> Iterator[list[HostRecord]]:
        with store.lock("registry", Deadline(LOCK_WAIT)):
            yield [
                record for record, _state in domains.read_all()[0] if isinstance(record, HostRecord)
            ]

    reason = SYSTEM if uri.endswith("/system") else SESSION

    def facts() -> PoolFacts:
        return PoolFacts("admission", reason, available_mib())

    return FilePoolStore(store.root / "pools", guard, facts)


def available_mib() -> int | None:
    """Return the memory that this machine can provide without ending a process (proc(5),
    MemAvailable).
    """
    try:
        for line in MEMINFO.read_text(encoding="ascii").splitlines():
            name, _colon, amount = line.partition(":")
            if name == "MemAvailable":
                return int(amount.split()[0]) // 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
