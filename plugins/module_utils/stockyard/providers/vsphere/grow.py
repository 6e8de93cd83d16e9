# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resizing of running machines: processors and memory can be added, but never removed.

vSphere adds them only if the machine allows it. That setting changes only while a machine is off,
so a template decides for its forks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...clock import Deadline
from ...errors import Unsupported
from ...model.host import HostRecord
from ...model.size import Size
from ...model.template import Hardware, TemplateRecord
from . import api
from .inventory import properties
from .session import Session
from .task import Tasks

CPUS, MEMORY = "config.hardware.numCPU", "config.hardware.memoryMB"
ADDS_CPUS, ADDS_MEMORY = "config.cpuHotAddEnabled", "config.memoryHotAddEnabled"
LIMIT = "config.hotPlugMemoryLimit"


def room(session: Session, ref: Any, record: TemplateRecord) -> tuple[Hardware, int]:
    """Return the hardware that forks of a frozen machine can get, and the MiB of memory, or 0."""
    values = properties(session, ref, (ADDS_CPUS, ADDS_MEMORY, LIMIT), record.title)
    hardware, memory = record.hardware, record.max_memory_mib
    if not values.get(ADDS_CPUS):
        hardware = replace(hardware, max_vcpus=hardware.vcpus)
    if not values.get(ADDS_MEMORY):
        memory = 0
    return hardware, min(memory, int(values.get(LIMIT) or 0) or memory)


def resize(
    session: Session, tasks: Tasks, ref: Any, record: HostRecord, size: Size, deadline: Deadline
) -> None:
    """Resize a running machine. Values that match already stay unchanged.

    :raises Unsupported: if the resource cannot be added, or the size is smaller than the current
        size.
    """
    values = properties(session, ref, (CPUS, MEMORY, ADDS_CPUS, ADDS_MEMORY), record.title)
    spec = api.vim().vm.ConfigSpec()
    if size.vcpus != values[CPUS]:
        _check(record, "processors", values[CPUS], size.vcpus, bool(values.get(ADDS_CPUS)))
        spec.numCPUs = size.vcpus
    if size.memory_mib != values[MEMORY]:
        _check(
            record, "MiB of memory", values[MEMORY], size.memory_mib, bool(values.get(ADDS_MEMORY))
        )
        spec.memoryMB = size.memory_mib
    if spec.numCPUs or spec.memoryMB:
        tasks.run("add to the machine", record.title, lambda: ref.ReconfigVM_Task(spec), deadline)


def _check(record: HostRecord, resource: str, current: int, desired: int, can_add: bool) -> None:
    """Refuse a change that vCenter would refuse."""
    if desired < current:
        raise Unsupported(
            f"the machine has {current} {resource}, which cannot be reduced while it runs.",
            name=record.title,
            remedy="replace the host",
        )
    if not can_add:
        raise Unsupported(
            f"{resource} cannot be added to the machine while it runs.",
            name=record.title,
            cause="hot add is not enabled in the machine",
            remedy="rebuild the template, and replace the host",
        )
