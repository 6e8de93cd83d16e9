# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draining of nodes: a node gets no new builds, and its running builds are waited for. No yard is
needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from ...clock import Deadline
from ...errors import NotFound
from ...hypervisor.provider import Progress
from .client import Controller
from .node import DRAINED, Node

POLL = 1.0


def drain(
    progress: Progress, controller: Controller, nodes: Iterable[Node], grace: Deadline
) -> list[str]:
    """Take nodes out of service and wait until they are idle; return the names of the nodes that
    are still busy at the end.

    A node that a user took out of service keeps its reason, and stockyard does not return it to
    service later.
    """
    chosen = list(nodes)
    for node in chosen:
        if not node.held:
            # A node that was deleted in the meantime has no builds to wait for.
            with suppress(NotFound):
                controller.hold(node.name, DRAINED)
                progress(f"node {node.name}: drained of new builds")
    names, announced = {candidate.name for candidate in chosen}, False
    while names:
        busy = sorted(
            candidate.name
            for candidate in controller.nodes()
            if candidate.name in names and not candidate.idle
        )
        if not busy:
            return []
        if not announced:
            progress(f"waiting up to {grace.left():.0f} s for the builds of {', '.join(busy[:5])}")
            announced = True
        if grace.passed():
            progress(f"still running at the end of the wait: {', '.join(busy[:5])}")
            return busy
        grace.pause(POLL)
    return []
