# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of machines on the memory hypervisor that users do not see."""

from __future__ import annotations

from pathlib import Path

from stockyard import HostInfo, TemplateInfo
from stockyard.hypervisor.provider import Provider
from stockyard.model.observation import Record
from stockyard.providers.memory.provider import MemoryProvider

from .faulty_provider import FaultyProvider


def disk_of(machine: HostInfo | TemplateInfo) -> Path:
    """Return the directory that is the disk of a machine."""
    return Path(machine.storage) / "disks" / machine.uuid


def has_link(provider: Provider, record: Record) -> bool:
    """Return whether the network link of a machine is up."""
    memory = provider.inner if isinstance(provider, FaultyProvider) else provider
    assert isinstance(memory, MemoryProvider)
    return memory.state.read()[record.domain].link
