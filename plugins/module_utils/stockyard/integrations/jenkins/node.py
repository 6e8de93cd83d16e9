# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes as a controller lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput
from ...model import untrusted
from .mark import Mark, read

DRAINED = "stockyard: drained, its host will be deleted"
USED = "stockyard: has had its build, its host will be deleted"
# Fields of a node that :func:`node` reads.
FIELDS = (
    "displayName,description,idle,offline,temporarilyOffline,offlineCauseReason,"
    "numExecutors,assignedLabels[name]"
)


@dataclass(frozen=True)
class Node:
    """Node and its current state.

    :param idle: whether it runs no build.
    :param offline: whether it gets no builds, because its agent is not connected or because it was
        taken out of service.
    :param held: whether it was taken out of service.
    :param reason: the reason why it is offline.
    :param mark: its owner; ``None`` if it has no mark.
    :param problem: the error in its mark.
    """

    name: str
    idle: bool = True
    offline: bool = False
    held: bool = False
    reason: str = ""
    labels: tuple[str, ...] = ()
    executors: int = 1
    mark: Mark | None = None
    problem: str = ""

    @property
    def drained(self) -> bool:
        """Return whether stockyard took the node out of service temporarily."""
        return self.held and self.reason == DRAINED

    @property
    def out_of_service(self) -> bool:
        """Return whether stockyard took the node out of service permanently."""
        return self.held and self.reason == USED


def node(data: Any) -> Node:
    """Return one entry of the controller's list.

    :raises MalformedData: if the entry has another form.
    """
    facts = untrusted.mapping(data, "a node")
    name, problem, mark = (
        untrusted.words(untrusted.item(facts, "displayName", "a node"), "displayName"),
        "",
        None,
    )
    try:
        mark = read(name, untrusted.words(facts.get("description") or "", "description", 1 << 16))
    except InvalidInput as error:
        problem = str(error)
    idle, offline, held = (
        untrusted.flag(untrusted.item(facts, key, "a node"), key)
        for key in ("idle", "offline", "temporarilyOffline")
    )
    reason = untrusted.words(facts.get("offlineCauseReason") or "", "offlineCauseReason")
    executors = untrusted.whole(untrusted.item(facts, "numExecutors", "a node"), "numExecutors")
    return Node(name, idle, offline, held, reason, _labels(facts, name), executors, mark, problem)


def _labels(facts: dict[str, Any], name: str) -> tuple[str, ...]:
    labels = untrusted.items(facts.get("assignedLabels") or [], "assignedLabels")
    names = (
        untrusted.item(untrusted.mapping(label, "a label"), "name", "a label") for label in labels
    )
    return tuple(sorted({untrusted.words(text, "a label") for text in names} - {name}))
