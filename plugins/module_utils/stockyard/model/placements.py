# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The distribution of a fleet over several hypervisors. A pure function of the declaration.

No hypervisor is asked: each run computes the share of its own hypervisor, and all runs agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import InvalidInput
from . import naming

PLACEMENTS = ("spread", "pack")
HYPERVISOR_STATES = ("active", "evacuated", "dead")
# "fleet-hypervisor-12345" is a host's name: 40 + 1 + 16 + 1 + 5 letters.
NAME_MAX = 16
MOST = 10000


@dataclass(frozen=True)
class Hypervisor:
    """One of the hypervisors of a fleet.

    :param name: at most 16 characters; part of the names of its hosts.
    :param state: ``active``; ``evacuated`` must have none of the fleet's hosts, and its share moves
        to the others; ``dead`` is the same, and no run waits for the hypervisor.
    :param max: the largest number of the fleet's hosts on it; ``None`` for any number.
    """

    name: str
    state: str = field(default="active", metadata={"choices": HYPERVISOR_STATES})
    max: int | None = None

    def __post_init__(self) -> None:
        naming.name("hypervisor", self.name, NAME_MAX)
        naming.check_choices(self)
        if self.max is not None:
            naming.whole("max", self.max, 0, MOST)


def check(hypervisors: Sequence[Hypervisor], local_name: str, placement: str, count: int) -> None:
    """Refuse a list of hypervisors that does not match the fleet.

    :param local_name: the hypervisor of this run.
    """
    names = [hypervisor.name for hypervisor in hypervisors]
    if len(set(names)) != len(names):
        raise InvalidInput("hypervisors: a name occurs twice.", remedy="declare each name once")
    if hypervisors and local_name not in names:
        raise InvalidInput(
            f"local_hypervisor: {naming.shown(local_name)} is not among the fleet's hypervisors.",
            cause=f"the hypervisors are {', '.join(names)}",
            remedy="set the name of this hypervisor; to empty a hypervisor, keep it in the "
            "list as evacuated",
        )
    if hypervisors:
        shares(hypervisors, placement, count)


def shares(hypervisors: Sequence[Hypervisor], placement: str, count: int) -> dict[str, int]:
    """Return the number of hosts of each hypervisor: ``spread`` evenly, or ``pack`` into the first
    ones.

    :raises InvalidInput: if the hypervisors together allow fewer hosts than declared.
    """
    room = {
        hypervisor.name: count if hypervisor.max is None else min(hypervisor.max, count)
        for hypervisor in hypervisors
        if hypervisor.state == "active"
    }
    if sum(room.values()) < count:
        raise InvalidInput(
            f"hypervisors: they can have {sum(room.values())} hosts, and {count} are declared.",
            remedy="raise max, add a hypervisor, or declare fewer hosts",
        )
    counts = dict.fromkeys((hypervisor.name for hypervisor in hypervisors), 0)
    remaining = count
    while remaining:
        open_names = [name for name in room if counts[name] < room[name]]
        # With "pack" the first hypervisor takes all it can; with "spread" each takes its part, and
        # the first ones take the remainder.
        part = remaining if placement == "pack" else max(1, remaining // len(open_names))
        for name in open_names:
            allotment = min(part, room[name] - counts[name], remaining)
            counts[name] += allotment
            remaining -= allotment
    return counts


def dealt(
    names: Sequence[str], hypervisors: Sequence[Hypervisor], placement: str, local_name: str
) -> tuple[str, ...]:
    """Return the declared names that are the share of one hypervisor: consecutive names, in their
    order.
    """
    counts, start = shares(hypervisors, placement, len(names)), 0
    for hypervisor in hypervisors:
        end = start + counts[hypervisor.name]
        if hypervisor.name == local_name:
            return tuple(names[start:end])
        start = end
    return ()
