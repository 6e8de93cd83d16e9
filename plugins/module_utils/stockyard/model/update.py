# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a fleet's hosts are replaced when they are no longer as declared."""

from __future__ import annotations

from dataclasses import dataclass
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
        own name; ``on_release`` is rolling that waits for holders and for nothing else.
    :param max_surge: how many hosts there may be beside those declared; 1 where that is possible.
    :param max_unavailable: how many of the declared ones may be missing; 0 where there may be
        others beside them, else 1.
    :param grace: seconds for which containers of a host that is to go are waited for.
    :param hook: a command, as an argument vector, that is run on the controller before a host goes.
    """

    strategy: str = "rolling"
    max_surge: int | None = None
    max_unavailable: int | None = None
    grace: float = GRACE
    hook: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        naming.choice("strategy", self.strategy, STRATEGIES)
        for what, value in (
            ("max_surge", self.max_surge),
            ("max_unavailable", self.max_unavailable),
        ):
            if value is not None:
                naming.whole(what, value, 0, MOST)
        if self.max_surge == 0 and self.max_unavailable == 0:
            raise InvalidInput(
                "max_surge and max_unavailable are both 0: no host could ever be replaced.",
                remedy="give one of them at least 1",
            )
        naming.seconds("grace", self.grace, 0, 86400)
        _check_hook(self.hook)

    @property
    def patience(self) -> float:
        """Seconds for containers to end. A host that nobody holds has none that anyone
        waits for.
        """
        return 0.0 if self.strategy == "on_release" else self.grace

    def bounds(self, beside: bool) -> tuple[int, int]:
        """How many hosts too many and too few there may be.

        :param beside: whether a new host can be there while the old one is.
        :raises InvalidInput: when none could be replaced.
        """
        surge = (1 if self.max_surge is None else self.max_surge) if beside else 0
        lacking = self.max_unavailable if self.max_unavailable is not None else int(surge == 0)
        if not surge and not lacking:
            raise InvalidInput(
                "max_unavailable is 0, and a new host cannot be made beside the old one.",
                cause="it is to have the same name or volume, or to publish the same port at the "
                "same address",
                remedy="set max_unavailable to 1 or more",
            )
        return surge, lacking


def _check_hook(hook: tuple[Any, ...]) -> None:
    for word in hook:
        if not isinstance(word, str) or "\0" in word:
            raise InvalidInput(
                f"hook: {naming.shown(word)} is no argument.", remedy="give the command as a list"
            )
    if hook and not hook[0]:
        raise InvalidInput("hook: the command is empty.", remedy="name a program first")
