# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory that the hosts of a pool really use, and the risks of that. Pure.

The quota counts nominal sizes. A fork begins with almost no private memory and grows into its size
page by page, so a pool with memory overcommit can run out of memory long after its hosts were
created.
"""

from __future__ import annotations

from collections.abc import Collection

from ..model.pool import PoolRecord
from ..model.pool_info import HostMemory

# The part of a pool's memory that its hosts can use before there is a warning.
CLOSE = 0.8


def oom_candidate(usages: Collection[HostMemory]) -> str:
    """Return the name of the host that the kernel would end first; empty if there are no hosts."""
    return (
        max(usages, key=lambda usage: (usage.oom_score, usage.private_mib, usage.name)).name
        if usages
        else ""
    )


def private(usages: Collection[HostMemory]) -> float:
    """Return the private memory of the hosts in MiB."""
    return round(sum(usage.private_mib for usage in usages), 1)


def warnings(
    pool: PoolRecord, usages: Collection[HostMemory], available_mib: int | None
) -> list[str]:
    """Return the risks of a pool, each in a line.

    :param usages: the memory that its running hosts use, as far as it is known.
    :param available_mib: the memory that the hypervisor can still provide; ``None`` if unknown.
    """
    own_mib, messages = private(usages), []
    consequence = f"the kernel would end the machine of host {oom_candidate(usages)} first"
    if pool.spec.memory_mib and own_mib > CLOSE * pool.spec.memory_mib:
        messages.append(
            f"the pool's hosts use {own_mib:g} MiB of private memory, and the pool has "
            f"{pool.spec.memory_mib} MiB; {consequence}"
        )
    growth_mib = sum(max(0.0, usage.nominal_mib - usage.private_mib) for usage in usages)
    if available_mib is not None and growth_mib > available_mib:
        messages.append(
            f"the pool's hosts can grow by {growth_mib:.0f} MiB, and the hypervisor has "
            f"{available_mib} MiB available; {consequence}"
        )
    return messages
