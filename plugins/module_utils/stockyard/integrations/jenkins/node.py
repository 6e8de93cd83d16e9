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

DRAINED = "stockyard: drained, its host is to go"
USED = "stockyard: has its build, its host goes after it"
# What :func:`node` reads of each.
FIELDS = (
    "displayName,description,idle,offline,temporarilyOffline,offlineCauseReason,"
    "numExecutors,assignedLabels[name]"
)


@dataclass(frozen=True)
class Node:
    """A node and what it does now.

    :param idle: whether no build runs on it.
    :param offline: whether it gets no builds: its agent is not there, or somebody took it out of
        service.
    :param held: whether somebody took it out of service.
    :param reason: why it is offline.
    :param mark: whose it is; ``None`` where it does not say.
    :param problem: what is wrong with its mark.
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
        """Whether we took it out of service, for a while."""
        return self.held and self.reason == DRAINED

    @property
    def used(self) -> bool:
        """Whether we took it out of service for good."""
        return self.held and self.reason == USED


def node(data: Any) -> Node:
    """Return one entry of the controller's list.

    :raises MalformedData: when it is anything else.
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
