# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of a running machine before it is branched, and the devices of its branch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import Busy, OperationRefused, OutOfSpace, Unsupported
from ...model.branch import BranchRecord, MemoryModule
from ...model.host import HostRecord
from . import designer, disk_layers, machine
from .faults import translated
from .grow import DIMM
from .monitor import Monitor
from .store import Store
from .xml.element import Element, parse

# The major version of QEMU that migrates the memory of a running emulated machine exactly.
FIRST_EXACT = 9


def check_space(record: BranchRecord, store: Store, title: str) -> None:
    """Refuse a branch if the storage has no space for its memory.

    :raises OutOfSpace: with the MiB that are needed and those that are free.
    """
    needed_mib = record.hardware.memory_mib + sum(module.size_mib for module in record.modules)
    _check_free(needed_mib, "the memory of a branch", store, title)


def check_template_space(memory_mib: int, files: Iterable[Path], store: Store, title: str) -> None:
    """Refuse a template if the storage has no space for its files and for its branch: each has the
    memory of the host, and the disk of the template has the content of all layers.

    :param files: the disk of the host, and the layers under it.
    :raises OutOfSpace: with the MiB that are needed and those that are free.
    """
    disk_mib = sum(path.stat().st_blocks * 512 for path in files) >> 20
    _check_free(2 * memory_mib + disk_mib, "a template from this host", store, title)


def _check_free(needed_mib: int, purpose: str, store: Store, title: str) -> None:
    free_mib = shutil.disk_usage(store.root).free >> 20
    if needed_mib > free_mib:
        raise OutOfSpace(
            f"the storage has no space for {purpose}.",
            name=title,
            cause=f"{needed_mib} MiB are needed, {free_mib} MiB are free in {store.root}",
            remedy="free space in the storage",
        )


def draft(domain: Any, definition: Element, host: HostRecord, record: BranchRecord) -> BranchRecord:
    """Return the record of a branch with the devices of its machine as it runs now.

    :param record: the record without them.
    :raises StockyardError: if the machine cannot be branched.
    """
    monitor = Monitor(domain, host.title)
    if not monitor.command("query-status")["running"]:
        raise OperationRefused(
            "the host is paused.", name=host.title, remedy="start the host, and run again"
        )
    targets = disk_layers.targets_of(definition)
    if len(targets) != 1 + len(record.volumes):
        raise OperationRefused(
            "the machine of the host has other disks than its record.",
            name=host.title,
            cause=f"it has {', '.join(targets)}, and {len(record.volumes)} volumes are attached",
            remedy="restart the host, and run again",
        )
    backend = os.path.basename(
        str(monitor.command("qom-get", path="/machine", property="memory-backend"))
    )
    if backend != designer.RAM:
        raise Unsupported(
            "the memory of the host has a layout that cannot be branched.",
            name=host.title,
            cause=f"QEMU's name of its memory is {backend}, not {designer.RAM}",
            remedy="replace the host, and run again",
        )
    with translated("read the domain", host.title):
        if any(domain.blockJobInfo(target, 0) for target in targets):
            raise Busy(
                "a job works on a disk of the host.",
                name=host.title,
                remedy="wait until virsh blockjob shows no job, and run again",
            )
    return replace(
        record,
        added_vcpus=machine.added_processors(definition),
        modules=tuple(_modules(monitor)),
    )


def misses_writes(monitor: Monitor) -> bool:
    """Return whether QEMU can miss writes of a running guest to memory that it migrates.

    Before version 9.0 it does so with emulated processors: a write through the processor's cache of
    addresses was not tracked (QEMU's commit 03bfc2188f06).
    """
    if monitor.command("query-kvm")["enabled"]:
        return False
    return int(monitor.command("query-version")["qemu"]["major"]) < FIRST_EXACT


def _modules(monitor: Monitor) -> Iterator[MemoryModule]:
    """Return the memory modules of a running machine."""
    for device in monitor.command("query-memory-devices") or []:
        data = device.get("data", {})
        name = str(data.get("id", ""))
        if name.startswith(DIMM):
            yield MemoryModule(
                number=int(name.removeprefix(DIMM)),
                size_mib=int(data["size"]) >> 20,
                address=int(data["addr"]),
                slot=int(data["slot"]),
            )


def definition_of(domain: Any, title: str) -> Element:
    """Return the definition of a running host.

    :raises OperationRefused: if the host does not run.
    """
    with translated("read the domain", title):
        if not domain.isActive():
            raise OperationRefused(
                "the host does not run.", name=title, remedy="start the host, and run again"
            )
        return parse(domain.XMLDesc(0))
