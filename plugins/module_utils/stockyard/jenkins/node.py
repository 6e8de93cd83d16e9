# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes as a controller lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput
from .mark import Mark, read

DRAINED = "stockyard: drained, its host is to go"
USED = "stockyard: has its build, its host goes after it"
# What :func:`node` reads of each.
FIELDS = "displayName,description,idle,offline,temporarilyOffline,offlineCauseReason,numExecutors,assignedLabels[name]"


@dataclass(frozen=True)
class Node:
    """A node and what it does now.

    :param idle: whether no build runs on it.
    :param offline: whether it gets no builds: its agent is not there, or somebody took it out of service.
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


def node(data: dict[str, Any]) -> Node:
    """One entry of the controller's list.

    :raises KeyError: when it lacks something; also TypeError, when it is something else.
    """
    name, problem, mark = str(data["displayName"]), "", None
    try:
        mark = read(name, str(data.get("description") or ""))
    except InvalidInput as error:
        problem = str(error)
    labels = tuple(sorted(str(label["name"]) for label in data.get("assignedLabels") or ()))
    return Node(
        name, bool(data["idle"]), bool(data["offline"]), bool(data["temporarilyOffline"]),
        str(data.get("offlineCauseReason") or ""), tuple(x for x in labels if x != name),
        int(data["numExecutors"]), mark, problem,
    )  # fmt: skip
