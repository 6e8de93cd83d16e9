# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet over several hypervisors: which of its hosts are to be on which. A pure function of the
declaration.

No hypervisor is asked: each run works out the share of the one that it runs on, and all runs agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

    :param name: at most 16 characters; part of the names of the hosts on it.
    :param state: ``active``; ``evacuated`` is to have none of the fleet's hosts, and its share
        moves to the others; ``dead`` is the same and says that nobody is to wait for it.
    :param most: how many of the fleet's hosts it takes; ``None`` for any number.
    """

    name: str
    state: str = "active"
    most: int | None = None

    def __post_init__(self) -> None:
        naming.name("hypervisor", self.name, NAME_MAX)
        naming.choice("state of a hypervisor", self.state, HYPERVISOR_STATES)
        if self.most is not None:
            naming.whole("max", self.most, 0, MOST)


def check(hypervisors: Sequence[Hypervisor], here: str, placement: str, count: int) -> None:
    """Refuse a list of hypervisors that does not fit.

    :param here: the one that this run is on.
    """
    naming.choice("placement", placement, PLACEMENTS)
    names = [h.name for h in hypervisors]
    if len(set(names)) != len(names):
        raise InvalidInput("hypervisors: one is named twice.", remedy="name each once")
    if hypervisors and here not in names:
        raise InvalidInput(
            f"here: {naming.shown(here)} is not among the fleet's hypervisors.",
            cause=f"they are {', '.join(names)}",
            remedy="say by its name which of them this is; to empty one, keep it in the list as "
            "evacuated",
        )
    if hypervisors:
        shares(hypervisors, placement, count)


def shares(hypervisors: Sequence[Hypervisor], placement: str, count: int) -> dict[str, int]:
    """How many hosts each hypervisor has: ``spread`` evenly, or ``pack`` into the first ones.

    :raises InvalidInput: when they do not take as many as there are to be.
    """
    room = {
        h.name: count if h.most is None else min(h.most, count)
        for h in hypervisors
        if h.state == "active"
    }
    if sum(room.values()) < count:
        raise InvalidInput(
            f"hypervisors: they take {sum(room.values())} hosts, and {count} are wanted.",
            remedy="raise max, add a hypervisor, or want fewer hosts",
        )
    found = dict.fromkeys((h.name for h in hypervisors), 0)
    left = count
    while left:
        open_ones = [name for name in room if found[name] < room[name]]
        # Packed, the first takes all it can; spread, each takes its part, and the first ones the
        # rest.
        part = left if placement == "pack" else max(1, left // len(open_ones))
        for name in open_ones:
            taken = min(part, room[name] - found[name], left)
            found[name] += taken
            left -= taken
    return found


def dealt(
    names: Sequence[str], hypervisors: Sequence[Hypervisor], placement: str, here: str
) -> tuple[str, ...]:
    """The declared names that are the share of one hypervisor: a run of them, in their order."""
    found, start = shares(hypervisors, placement, len(names)), 0
    for hypervisor in hypervisors:
        end = start + found[hypervisor.name]
        if hypervisor.name == here:
            return tuple(names[start:end])
        start = end
    return ()
