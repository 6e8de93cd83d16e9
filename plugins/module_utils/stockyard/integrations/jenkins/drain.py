# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Letting a node finish what it builds: it gets nothing new, and what runs is waited for. It needs
no yard.
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
    """Take nodes out of service and wait until they are idle; returns the names of those that are
    not, at the end.

    One that somebody else took out of service keeps his reason, and is not brought back by us.
    """
    chosen = list(nodes)
    for node in chosen:
        if not node.held:
            # Who removed it meanwhile has nothing to wait for.
            with suppress(NotFound):
                controller.hold(node.name, DRAINED)
                progress(f"node {node.name}: gets no new builds")
    names, told = {n.name for n in chosen}, False
    while names:
        busy = sorted(n.name for n in controller.nodes() if n.name in names and not n.idle)
        if not busy:
            return []
        if not told:
            progress(f"waits up to {grace.left():.0f} s for the builds of {', '.join(busy[:5])}")
            told = True
        if grace.passed():
            progress(f"not waited for any longer: {', '.join(busy[:5])}")
            return busy
        grace.pause(POLL)
    return []
