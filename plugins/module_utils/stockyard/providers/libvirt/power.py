# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ending a machine that may end by itself at that moment: between a look at it and an order to it,
QEMU may die.

While libvirt handles that, the domain still counts as active, and an order waits its turn and is
then refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...clock import Deadline
from .faults import translated


def off(domain: Any, name: str) -> None:
    """Pull the plug.

    :raises HypervisorError: when it runs on.
    """
    with translated("destroy the domain", name), or_ended(domain):
        if domain.isActive():
            domain.destroy()


def stop(domain: Any, name: str, grace: Deadline) -> None:
    """Ask the guest to shut down, and pull the plug when it has not by then."""
    with translated("stop the domain", name):
        with or_ended(domain):
            if domain.isActive():
                domain.shutdown()
        while domain.isActive() and not grace.passed():
            grace.pause(0.2)
    off(domain, name)


@contextmanager
def or_ended(domain: Any) -> Iterator[None]:
    """Forgive an order to a running machine that was refused because it does not run any more."""
    import libvirt

    try:
        yield
    except libvirt.libvirtError:
        if domain.isActive():
            raise
