# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as it is kept: to be looked at, and to be applied only while it is still true."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput, OperationRefused
from ..model import codec
from .plan import Action, Plan

FORMAT = 1
SHOWN = 10


@dataclass(frozen=True)
class SavedPlan:
    """A plan, and the state of everything that it touches.

    :param touches: ``uuid@version`` of each object that was there, by kind, tenant and name.
    :param digest: SHA-256 over what is done and to what.
    """

    format: int
    owner: str
    hypervisor: str
    made: str
    actions: tuple[Action, ...]
    touches: dict[str, str]
    digest: str = ""

    def sealed(self) -> str:
        """The digest that it has to have."""
        return codec.digest(
            {
                "owner": self.owner,
                "hypervisor": self.hypervisor,
                "actions": [*self._done()],
                "touches": self.touches,
            }
        )

    def _done(self) -> list[dict[str, Any]]:
        # In words a reason may differ from one moment to the next.
        return [{k: v for k, v in codec.to_dict(a).items() if k != "reason"} for a in self.actions]

    def differences(self, now: SavedPlan) -> list[str]:
        """What is not as it was, in words."""
        found = [
            f"{what} is {new}, not {old}"
            for what, old, new in (
                ("the owner", self.owner, now.owner),
                ("the hypervisor", self.hypervisor, now.hypervisor),
            )
            if old != new
        ]
        for what in sorted({*self.touches, *now.touches}):
            old, new = self.touches.get(what), now.touches.get(what)
            if old != new:
                found.append(f"{what} {_change(old, new)}")
        before, after = [_line(a) for a in self.actions], [_line(a) for a in now.actions]
        found += [f"{line} is no longer to be done" for line in before if line not in after]
        found += [f"{line} is to be done too" for line in after if line not in before]
        return found or ["the same is to be done in another way"]

    def check(self, now: SavedPlan) -> None:
        """Refuse it where it is no longer true.

        :raises Refused: with what changed.
        """
        if self.sealed() == now.sealed():
            return
        found = self.differences(now)
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise OperationRefused(
            "the saved plan is no longer true: nothing was changed.",
            name=f"plan {self.digest[:12]}",
            cause="; ".join(found[:SHOWN]) + more,
            remedy="make a new plan, look at it, and apply that",
        )

    def markdown(self) -> str:
        """The plan as a page, to be shown in a pull request."""
        head = f"### Plan for yard `{self.owner}`\n\n"
        if not self.actions:
            return f"{head}Everything is as declared. Plan `{self.digest[:12]}`.\n"
        rows = [
            f"| {a.verb} | {a.kind} {_cell(a.name)} | {_cell(a.reason)} |" for a in self.actions
        ]
        noun = "action" if len(self.actions) == 1 else "actions"
        count = f"{len(self.actions)} {noun}, plan `{self.digest[:12]}`.\n\n"
        return f"{head}{count}| do | what | why |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"


def seal(
    owner: str, hypervisor: str, made: str, plan: Plan, touches: Mapping[str, str]
) -> SavedPlan:
    """A plan to be saved."""
    bare = SavedPlan(FORMAT, owner, hypervisor, made, plan.actions, dict(touches))
    return SavedPlan(FORMAT, owner, hypervisor, made, plan.actions, dict(touches), bare.sealed())


def read(data: Any, where: str) -> SavedPlan:
    """A saved plan out of plain JSON.

    :raises InvalidInput: when it is not one of ours, or not as it was saved.
    """
    if isinstance(data, dict) and data.get("format") != FORMAT:
        raise InvalidInput(
            "it is no plan of this version.", name=where, remedy="save the plan anew in check mode"
        )
    found = codec.from_dict(SavedPlan, data, where)
    if found.digest != found.sealed():
        raise InvalidInput(
            "it is not as it was saved.", name=where, remedy="save the plan anew in check mode"
        )
    return found


def _line(action: Action) -> str:
    return f"{action.verb} {action.kind} {action.name}"


def _change(old: str | None, new: str | None) -> str:
    if old is None or new is None:
        return "is there now" if old is None else "is gone"
    return "was changed" if old.split("@")[0] == new.split("@")[0] else "is another one"


def _cell(text: str) -> str:
    """Text of others in a table's cell: neither markup nor a new row."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]|~" else c for c in plain)
