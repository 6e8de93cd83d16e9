# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public facts of a node of a Jenkins controller."""

from __future__ import annotations

from dataclasses import dataclass

from ...model.info import Info


@dataclass(frozen=True, kw_only=True)
class NodeInfo(Info):
    """A node of a fleet, or a host without a node.

    :param name: the name of the node. Empty for a host without a node.
    :param host: the name of the host.
    :param uuid: the UUID of the host.
    :param address: the address of the host. Empty if the host does not exist.
    :param host_state: the state of the host. ``gone`` if it does not exist.
    :param labels: the labels of the node.
    :param executors: the number of builds that run at the same time.
    :param idle: whether no build is running.
    :param online: whether the node accepts builds.
    :param held: whether the node was taken offline.
    :param reason: the reason why the node accepts no builds.
    :param secret: the secret with which the inbound agent authenticates. ``None`` if it was not
        requested, or for a host without a node.
    """

    name: str
    host: str
    uuid: str
    address: str
    host_state: str
    labels: tuple[str, ...]
    executors: int
    idle: bool
    online: bool
    held: bool
    reason: str
    secret: str | None = None
