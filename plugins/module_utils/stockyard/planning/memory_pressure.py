# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts of a pool really hold of the hypervisor's memory, and what to fear of that. Pure.

Admission counts nominal sizes. A fork begins with next to nothing of its own and grows into its
size page by page, so a pool that gives out more memory than there is can run out of it long after
everything was admitted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..model.pool import PoolRecord

# The part of a pool's memory that its hosts may hold before somebody is told.
CLOSE = 0.8


@dataclass(frozen=True)
class Held:
    """What one running host holds.

    :param nominal_mib: its size.
    :param private_mib: what of its RAM is its own; the rest it shares with its template, or has not
        touched.
    :param oom_score: the kernel's own number: who has the highest is ended first when memory is
        out.
    """

    name: str
    nominal_mib: int
    private_mib: float
    shared_mib: float
    oom_score: int


def first_to_go(held: Collection[Held]) -> str:
    """The host that the kernel ends first, among these; empty where there is none."""
    return max(held, key=lambda h: (h.oom_score, h.private_mib, h.name)).name if held else ""


def private(held: Collection[Held]) -> float:
    """MiB that are the hosts' own."""
    return round(sum(h.private_mib for h in held), 1)


def warnings(pool: PoolRecord, held: Collection[Held], available_mib: int | None) -> list[str]:
    """What to fear of a pool, each in a line.

    :param held: what its running hosts hold, as far as it is known.
    :param available_mib: what the hypervisor can still give; ``None`` where that is not known.
    """
    own, found = private(held), []
    first = f"the kernel would end the machine of host {first_to_go(held)} first"
    if pool.spec.memory_mib and own > CLOSE * pool.spec.memory_mib:
        found.append(
            f"its hosts hold {own:g} MiB of their own, and the pool has {pool.spec.memory_mib} "
            f"MiB; {first}"
        )
    to_come = sum(max(0.0, h.nominal_mib - h.private_mib) for h in held)
    if available_mib is not None and to_come > available_mib:
        found.append(
            f"its hosts may still take {to_come:.0f} MiB, and the hypervisor has {available_mib} "
            f"MiB left; {first}"
        )
    return found
