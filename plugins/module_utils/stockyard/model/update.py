# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules by which a fleet's hosts are replaced when they are no longer as declared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidInput
from . import naming

STRATEGIES = ("rolling", "recreate", "on_release")
RECREATE = ("auto", "always")
GRACE = 30.0
MOST = 10000


@dataclass(frozen=True)
class UpdateSpec:
    """The rules of a replacement.

    :param strategy: ``rolling`` replaces a few at a time; ``recreate`` all at once, each under its
        own name; ``on_release`` is rolling, and waits only for leases to end.
    :param max_surge: the number of hosts allowed in addition to the declared ones; 1 if that is
        possible.
    :param max_unavailable: the number of declared hosts that can be missing; 0 if additional hosts
        are possible, else 1.
    :param grace: seconds to wait for the containers of a host before its deletion.
    :param hook: a command, as an argument vector, that runs on the controller before a host is
        deleted.
    """

    strategy: str = field(default="rolling", metadata={"choices": STRATEGIES})
    max_surge: int | None = None
    max_unavailable: int | None = None
    grace: float = GRACE
    hook: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        naming.check_choices(self)
        for option, value in (
            ("max_surge", self.max_surge),
            ("max_unavailable", self.max_unavailable),
        ):
            if value is not None:
                naming.whole(option, value, 0, MOST)
        if self.max_surge == 0 and self.max_unavailable == 0:
            raise InvalidInput(
                "max_surge and max_unavailable are both 0, so no host could be replaced.",
                remedy="set one of them to at least 1",
            )
        naming.seconds("grace", self.grace, 0, 86400)
        _check_hook(self.hook)

    @property
    def patience(self) -> float:
        """Return the seconds to wait for containers to end. No user waits for the containers of a
        host without a lease.
        """
        return 0.0 if self.strategy == "on_release" else self.grace

    def bounds(self, coexist: bool) -> tuple[int, int]:
        """Return how many hosts too many and too few are allowed.

        :param coexist: whether a new host can exist together with the old one.
        :raises InvalidInput: if no host could be replaced.
        """
        surge = (1 if self.max_surge is None else self.max_surge) if coexist else 0
        shortfall = self.max_unavailable if self.max_unavailable is not None else int(surge == 0)
        if not surge and not shortfall:
            raise InvalidInput(
                "max_unavailable is 0, and the old and the new host cannot exist at the same time.",
                cause="both have the same name or volume, or publish the same port at the "
                "same address",
                remedy="set max_unavailable to 1 or more",
            )
        return surge, shortfall


def _check_hook(hook: tuple[Any, ...]) -> None:
    for word in hook:
        if not isinstance(word, str) or "\0" in word:
            raise InvalidInput(
                f"hook: {naming.shown(word)} is not an argument.",
                remedy="write the command as a list",
            )
    if hook and not hook[0]:
        raise InvalidInput(
            "hook: the command is empty.", remedy="write a program as the first word"
        )
