# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of a machine beyond its record: the paths of its files, and the cost of its memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...errors import NotFound, StockyardError
from ...hypervisor.facts import MachineFacts
from ...model.host import HostRecord
from ...model.host_info import MemoryUse
from ...model.observation import Record
from . import container_ports, disk_layers, frozen, memory, network, processes, uplink
from .disk_layers import DiskLayers
from .domains import Domains
from .faults import translated
from .images import Images
from .store import Store
from .xml.element import parse


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

    def of(self, record: Record, folder: Path) -> MachineFacts:
        """Return the facts of one machine.

        :param folder: the directory of its files.
        """
        facts = MachineFacts(str(self.store.root), console_log=str(folder / "console.log"))
        if isinstance(record, HostRecord):
            ports, problem = (
                container_ports.state(folder) if record.spec.container_ports else (None, "")
            )
            return replace(
                facts,
                reports_memory=True,
                memory=self._memory(record),
                disk_layers=self._disk_layers(record, folder),
                refused=uplink.refused(folder) if record.spec.egress == "allow" else None,
                uplink_ended=network.has_uplink(record) and not uplink.is_guarded(folder),
                container_ports=ports,
                ports_problem=problem,
            )
        sizes = frozen.sizes(folder, self.images.path(record.image).disk)
        return replace(facts, sizes=sizes)

    def _memory(self, record: HostRecord) -> MemoryUse | None:
        """Return the present cost of a host's RAM; ``None`` if the host is off, cannot be read, or
        was deleted a moment ago.
        """
        if record.uuid not in self._processes:
            self._processes = processes.running()
        pid = self._processes.get(record.uuid)
        if pid is None:
            return None
        try:
            with translated("read the domain", record.title):
                return memory.guest_ram(pid, self.domains.find(record).maxMemory())
        except NotFound:
            return None

    def _disk_layers(self, record: HostRecord, folder: Path) -> int | None:
        """Return the number of layers that branches put under a host's disk; ``None`` if a disk
        cannot be read.
        """
        was_branched = any(folder.glob(f"disk-*{disk_layers.SUFFIX}"))
        if not (record.branch or was_branched):
            return 0
        disk = folder / "disk.qcow2"
        try:
            if was_branched:
                with translated("read the domain", record.title):
                    definition = self.domains.find(record).XMLDesc(0)
                disk = disk_layers.top(parse(definition))
            return DiskLayers(self.store.disk_layers).depth(disk)
        except StockyardError:
            return None
