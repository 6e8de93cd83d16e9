# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping a machine that may end by itself at the same moment: QEMU may die between a query and a
command.

While libvirt handles the end of a QEMU, the domain still counts as active; a command waits for its
turn and is then refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...clock import Deadline
from .faults import translated


def off(domain: Any, name: str) -> None:
    """Stop a machine by force.

    :raises HypervisorError: if it still runs afterwards.
    """
    with translated("end the domain", name), or_ended(domain):
        if domain.isActive():
            domain.destroy()


def stop(domain: Any, name: str, grace: Deadline) -> None:
    """Shut the guest down; stop the machine by force if the guest still runs after the grace."""
    with translated("stop the domain", name):
        with or_ended(domain):
            if domain.isActive():
                domain.shutdown()
        while domain.isActive() and not grace.passed():
            grace.pause(0.2)
    off(domain, name)


@contextmanager
def or_ended(domain: Any) -> Iterator[None]:
    """Ignore the refusal of a command if the machine does not run any more."""
    import libvirt

    try:
        yield
    except libvirt.libvirtError:
        if domain.isActive():
            raise
