# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A saved plan: a file to review, which is applied only while the state of the yard still matches
it.
"""

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
    """A plan, and the state of every object that it changes.

    :param touches: ``uuid@version`` of each existing object, by kind, tenant and name.
    :param digest: SHA-256 over the actions and their objects.
    """

    format: int
    owner: str
    hypervisor: str
    made: str  # words: a key of saved plans
    actions: tuple[Action, ...]
    touches: dict[str, str]
    digest: str = ""

    def expected_digest(self) -> str:
        """Return the digest that this plan must have."""
        return codec.digest(
            {
                "owner": self.owner,
                "hypervisor": self.hypervisor,
                "actions": [*self._done()],
                "touches": self.touches,
            }
        )

    def _done(self) -> list[dict[str, Any]]:
        # The words of a reason can differ from one moment to the next.
        return [
            {key: value for key, value in codec.to_dict(action).items() if key != "reason"}
            for action in self.actions
        ]

    def differences(self, current: SavedPlan) -> list[str]:
        """Return the differences to the current plan, in words."""
        differences = [
            f"{subject} is {new}, not {old}"
            for subject, old, new in (
                ("the owner", self.owner, current.owner),
                ("the hypervisor", self.hypervisor, current.hypervisor),
            )
            if old != new
        ]
        for subject in sorted({*self.touches, *current.touches}):
            old, new = self.touches.get(subject), current.touches.get(subject)
            if old != new:
                differences.append(f"{subject} {_change(old, new)}")
        before, after = (
            [_line(action) for action in self.actions],
            [_line(action) for action in current.actions],
        )
        differences += [f"{line} is no longer planned" for line in before if line not in after]
        differences += [f"{line} is now planned as well" for line in after if line not in before]
        return differences or ["the details of the actions changed"]

    def check(self, current: SavedPlan) -> None:
        """Refuse the saved plan if it no longer matches the current one.

        :raises OperationRefused: with the differences.
        """
        if self.expected_digest() == current.expected_digest():
            return
        differences = self.differences(current)
        suffix = f"; and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        raise OperationRefused(
            "the saved plan no longer matches the yard; nothing was changed.",
            name=f"plan {self.digest[:12]}",
            cause="; ".join(differences[:SHOWN]) + suffix,
            remedy="save a new plan, review it, and apply it",
        )

    def markdown(self) -> str:
        """Return the plan as a page for a pull request."""
        head = f"### Plan for yard `{self.owner}`\n\n"
        if not self.actions:
            return f"{head}Everything is as declared. Plan `{self.digest[:12]}`.\n"
        rows = [
            f"| {action.verb} | {action.kind} {_cell(action.name)} | {_cell(action.reason)} |"
            for action in self.actions
        ]
        noun = "action" if len(self.actions) == 1 else "actions"
        count = f"{len(self.actions)} {noun}, plan `{self.digest[:12]}`.\n\n"
        return (
            f"{head}{count}| action | object | reason |\n| --- | --- | --- |\n"
            + "\n".join(rows)
            + "\n"
        )


def seal(
    owner: str, hypervisor: str, created_at: str, plan: Plan, touches: Mapping[str, str]
) -> SavedPlan:
    """Return a plan in the form in which it is saved."""
    draft = SavedPlan(FORMAT, owner, hypervisor, created_at, plan.actions, dict(touches))
    return SavedPlan(
        FORMAT, owner, hypervisor, created_at, plan.actions, dict(touches), draft.expected_digest()
    )


def read(data: Any, source: str) -> SavedPlan:
    """Return a saved plan from plain JSON.

    :raises InvalidInput: if the data is not a saved plan of stockyard, or was changed after it was
        saved.
    """
    if isinstance(data, dict) and data.get("format") != FORMAT:
        raise InvalidInput(
            "the file is not a plan of this version of stockyard.",
            name=source,
            remedy="save a new plan in check mode",
        )
    saved = codec.from_dict(SavedPlan, data, source)
    if saved.digest != saved.expected_digest():
        raise InvalidInput(
            "the plan was changed after it was saved.",
            name=source,
            remedy="save a new plan in check mode",
        )
    return saved


def _line(action: Action) -> str:
    return f"{action.verb} {action.kind} {action.name}"


def _change(old: str | None, new: str | None) -> str:
    if old is None or new is None:
        return "exists now" if old is None else "no longer exists"
    return "was changed" if old.split("@")[0] == new.split("@")[0] else "was replaced"


def _cell(text: str) -> str:
    """Return text of others for a cell of a table: neither markup nor a new row."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return "".join(
        f"\\{character}" if character in "\\`*_[]|~" else character for character in plain
    )
