# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Giving a machine more while it runs: processors and memory are added to it where it is, and never
taken back.

vSphere adds them where the machine allows it, which is settled when it is off: a template says what
its forks do.
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
    """What the forks of a frozen machine can be given: its hardware, and the MiB of memory; 0 for
    none.
    """
    found = properties(session, ref, (ADDS_CPUS, ADDS_MEMORY, LIMIT), record.title)
    hardware, memory = record.hardware, record.max_memory_mib
    if not found.get(ADDS_CPUS):
        hardware = replace(hardware, max_vcpus=hardware.vcpus)
    if not found.get(ADDS_MEMORY):
        memory = 0
    return hardware, min(memory, int(found.get(LIMIT) or 0) or memory)


def resize(
    session: Session, tasks: Tasks, ref: Any, record: HostRecord, size: Size, deadline: Deadline
) -> None:
    """Bring a running machine to a size. What it has already is left as it is.

    :raises Unsupported: when it cannot be added, or is to be taken away.
    """
    found = properties(session, ref, (CPUS, MEMORY, ADDS_CPUS, ADDS_MEMORY), record.title)
    spec = api.vim().vm.ConfigSpec()
    if size.vcpus != found[CPUS]:
        _check(record, "processors", found[CPUS], size.vcpus, bool(found.get(ADDS_CPUS)))
        spec.numCPUs = size.vcpus
    if size.memory_mib != found[MEMORY]:
        _check(
            record, "MiB of memory", found[MEMORY], size.memory_mib, bool(found.get(ADDS_MEMORY))
        )
        spec.memoryMB = size.memory_mib
    if spec.numCPUs or spec.memoryMB:
        tasks.run("add to the machine", record.title, lambda: ref.ReconfigVM_Task(spec), deadline)


def _check(record: HostRecord, what: str, there: int, wanted: int, adds: bool) -> None:
    """Refuse what vCenter would."""
    if wanted < there:
        raise Unsupported(
            f"it has {there} {what}, and none can be taken away while it runs.",
            name=record.title,
            remedy="replace the host",
        )
    if not adds:
        raise Unsupported(
            f"{what} cannot be added to its machine while it runs.",
            name=record.title,
            cause="hot add is not enabled in it",
            remedy="build its template anew, and replace the host",
        )
