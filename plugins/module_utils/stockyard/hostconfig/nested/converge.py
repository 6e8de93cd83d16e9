# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A nested Docker: there as declared, or gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...clock import Deadline
from ...errors import OperationRefused
from ...model import codec
from ..machine import Machine
from .container import Box, Found
from .outer_host import look, refuse, refuse_size
from .spec import NestedSpec


@dataclass(frozen=True)
class Outcome:
    """What was there and what is, or would be in check mode."""

    before: dict[str, Any]
    after: dict[str, Any]

    @property
    def changed(self) -> bool:
        """Whether anything was done, or would be."""
        return self.before != self.after


def converge(
    machine: Machine, spec: NestedSpec, *, present: bool, check: bool, deadline: Deadline
) -> Outcome:
    """Have it, or have nothing of it.

    :raises Refused: when this host cannot have it, or has another one.
    """
    outer = look(machine)
    box = Box(machine, spec, deadline)
    there = box.containers()
    ours = [found for found in there if found.digest]
    others = [found for found in ours if found.name != spec.name]
    mine = next((found for found in ours if found.name == spec.name), None)
    left = [] if others else box.leftovers()
    if not present:
        outcome = Outcome(_told(mine, left), {})
        if outcome.changed and not check:
            box.remove()
        return outcome
    refuse(machine, spec, outer)
    _refuse_others(spec, there, others, mine)
    wanted = codec.to_dict(spec)
    if mine and mine.running and box.answers():
        return Outcome(wanted, wanted)
    refuse_size(machine, spec, outer)
    if not check:
        if mine or left:
            box.remove()
        box.make(outer)
    return Outcome(_told(mine, left), wanted)


def _told(mine: Found | None, left: list[str]) -> dict[str, Any]:
    """What is there, as far as there is a word for it."""
    told: dict[str, Any] = {"name": mine.name, "running": mine.running} if mine else {}
    return {**told, "left": left} if left else told


def _refuse_others(
    spec: NestedSpec, there: list[Found], others: list[Found], mine: Found | None
) -> None:
    name = f"nested {spec.name}"
    if others:
        raise OperationRefused(
            f"this host has the nested Docker {others[0].name} already.",
            name=name,
            cause="one job has the host, so that what it does to it is no other's trouble",
            remedy=f"end that one with state: absent and name: {others[0].name}, or take another "
            f"host",
        )
    if any(found.name == spec.name and not found.digest for found in there):
        raise OperationRefused(
            "a container that is not ours has that name.", name=name, remedy="choose another name"
        )
    if mine and mine.running and mine.digest != spec.digest:
        raise OperationRefused(
            "it is there with other options.",
            name=name,
            cause="a change would take away what the job has done",
            remedy="give the options that it has, or end it with state: absent first",
        )
