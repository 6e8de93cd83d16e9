# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of a machine beyond its record: the paths of its files, and the cost of its memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...model.host import HostRecord
from ...model.observation import Record
from . import frozen, memory, processes
from .domains import Domains
from .faults import translated
from .images import Images
from .store import Store


class Facts:
    """The facts of one provider's machines.

    Processes are listed once for all hosts of an observation.
    """

    def __init__(self, store: Store, images: Images, domains: Domains) -> None:
        self.store = store
        self.images = images
        self.domains = domains
        self._processes: dict[str, int] = {}

    def forget(self) -> None:
        """Forget the processes, because a new observation begins."""
        self._processes = {}

    def of(self, record: Record, folder: Path) -> dict[str, Any]:
        """Return the facts of one machine.

        :param folder: the directory of its files.
        """
        facts: dict[str, Any] = {
            "console_log": str(folder / "console.log"),
            "storage": str(self.store.root),
        }
        if isinstance(record, HostRecord):
            facts["memory"] = self._memory(record)
        else:
            facts["sizes"] = frozen.sizes(folder, self.images.path(record.image).disk)
        return facts

    def _memory(self, record: HostRecord) -> dict[str, float] | None:
        """Return the present cost of a host's RAM; ``None`` if the host is off or cannot be
        read.
        """
        if record.uuid not in self._processes:
            self._processes = processes.running()
        pid = self._processes.get(record.uuid)
        if pid is None:
            return None
        with translated("read the domain", record.title):
            return memory.guest_ram(pid, self.domains.find(record).maxMemory())
