# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Convergence of a nested Docker: present as declared, or absent."""

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
    """State before and after, or the state that would result in check mode."""

    before: dict[str, Any]
    after: dict[str, Any]

    @property
    def changed(self) -> bool:
        """Return whether the state changed, or would change."""
        return self.before != self.after


def converge(
    machine: Machine, spec: NestedSpec, *, present: bool, check: bool, deadline: Deadline
) -> Outcome:
    """Create a nested Docker, or delete all of it.

    :raises OperationRefused: if this host does not support it, or has another one.
    """
    outer = look(machine)
    box = Box(machine, spec, deadline)
    containers = box.containers()
    nested = [container for container in containers if container.digest]
    foreign = [container for container in nested if container.name != spec.name]
    existing = next((container for container in nested if container.name == spec.name), None)
    leftovers = [] if foreign else box.leftovers()
    if not present:
        outcome = Outcome(_told(existing, leftovers), {})
        if outcome.changed and not check:
            box.remove()
        return outcome
    refuse(machine, spec, outer)
    _refuse_others(spec, containers, foreign, existing)
    desired = codec.to_dict(spec)
    if existing and existing.running and box.answers():
        return Outcome(desired, desired)
    refuse_size(machine, spec, outer)
    if not check:
        if existing or leftovers:
            box.remove()
        box.make(outer)
    return Outcome(_told(existing, leftovers), desired)


def _told(existing: Found | None, leftovers: list[str]) -> dict[str, Any]:
    """Return the state of the existing container and its leftovers."""
    state: dict[str, Any] = {"name": existing.name, "running": existing.running} if existing else {}
    return {**state, "leftovers": leftovers} if leftovers else state


def _refuse_others(
    spec: NestedSpec, containers: list[Found], foreign: list[Found], existing: Found | None
) -> None:
    name = f"nested {spec.name}"
    if foreign:
        raise OperationRefused(
            f"the host already has the nested Docker {foreign[0].name}.",
            name=name,
            cause="a host serves one job, so that jobs cannot affect each other",
            remedy=f"delete that one with state: absent and name: {foreign[0].name}, or use "
            "another host",
        )
    if any(container.name == spec.name and not container.digest for container in containers):
        raise OperationRefused(
            "a container outside stockyard has this name.", name=name, remedy="choose another name"
        )
    if existing and existing.running and existing.digest != spec.digest:
        raise OperationRefused(
            "the nested Docker exists with other options.",
            name=name,
            cause="a change would delete the results of the job",
            remedy="set its present options, or delete it with state: absent first",
        )
