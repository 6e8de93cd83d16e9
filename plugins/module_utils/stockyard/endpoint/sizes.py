# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The size that containers need of their machine. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..guest.security.reader.grammar import Refusal
from .calls import decode

MIB = 1 << 20
_PROCESSOR = re.compile("[0-9]{1,6}")
_PERIOD = 100000  # Docker's default, in microseconds
# The fields of a configuration that decide it.
LIMITS = ("Memory", "NanoCpus", "CpuQuota", "CpuPeriod", "CpusetCpus")


@dataclass(frozen=True)
class Demand:
    """The limits of containers. A container without a limit uses what its machine has.

    :param cpus: the processors, as a number with a fraction.
    :param processors: the processors that must exist, because a container names them.
    :param memory_mib: the memory.
    """

    cpus: float = 0.0
    processors: int = 0
    memory_mib: int = 0

    @property
    def vcpus(self) -> int:
        """Return the number of virtual CPUs."""
        return max(math.ceil(self.cpus), self.processors)


def demand_of(host: dict[str, Any]) -> Demand:
    """Return the demand of a container.

    :param host: its ``HostConfig``, which dockerd checks later.
    """
    nano_cpus = _number(host.get("NanoCpus"))
    quota, period = _number(host.get("CpuQuota")), _number(host.get("CpuPeriod")) or _PERIOD
    cpus = nano_cpus / 1e9 if nano_cpus else quota / period
    memory_mib = -(-_number(host.get("Memory")) // MIB)
    return Demand(cpus, _processors(str(host.get("CpusetCpus") or "")), memory_mib)


def total(demands: Iterable[Demand]) -> Demand:
    """Return the demand of several containers in one machine."""
    listed = list(demands)
    return Demand(
        sum(demand.cpus for demand in listed),
        max((demand.processors for demand in listed), default=0),
        sum(demand.memory_mib for demand in listed),
    )


def larger(first: Demand, second: Demand) -> Demand:
    """Return the larger value of each part of two demands."""
    return Demand(
        max(first.cpus, second.cpus),
        max(first.processors, second.processors),
        max(first.memory_mib, second.memory_mib),
    )


def changed_limits(body: bytes) -> dict[str, Any]:
    """Return the limits in the body of an update.

    :raises Refusal: if it is not a JSON object.
    """
    changes = decode(body or b"{}")
    if not isinstance(changes, dict):
        raise Refusal("the body of an update is no object")
    # Docker leaves a limit as it is if the call has 0 for it.
    limits = {name: changes[name] for name in LIMITS if changes.get(name)}
    if "NanoCpus" in limits:
        return {"CpuQuota": 0, **limits}
    if "CpuQuota" in limits:
        return {"NanoCpus": 0, **limits}
    return limits


def _number(value: Any) -> int:
    """Return a number of a configuration; 0 for what dockerd will refuse."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return max(value, 0) if whole else 0


def _processors(cpuset: str) -> int:
    """Return the number of processors up to the last one in a set such as ``0-2,5``."""
    ends = [part.rpartition("-")[2].strip() for part in cpuset.split(",")]
    return max((int(end) + 1 for end in ends if _PROCESSOR.fullmatch(end)), default=0)
