# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH access to a running template for a limited time.

The template's network card ends at a hub without other devices. QEMU's user network is connected to
that hub, with the one forward and no egress, and is disconnected again before the freeze: the
frozen state does not contain it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ...clock import Deadline
from ...errors import HypervisorError, StockyardError
from .monitor import Monitor

LOOPBACK = "127.0.0.1"
NETWORK, PORT = "visit", "visit-port"
HUB = 0
TRIES = 8


@contextmanager
def forward_ssh(monitor: Monitor, nic: str, deadline: Deadline) -> Iterator[tuple[str, int]]:
    """Connect the template for the length of the block; yield address and port of its SSH."""
    port = _plug_in(monitor, deadline)
    try:
        monitor.set_link(nic, True)
        yield LOOPBACK, port
    except BaseException:
        # The user network disappears with its machine.
        with suppress(StockyardError):
            _take_out(monitor, nic)
        raise
    _take_out(monitor, nic)


def _plug_in(monitor: Monitor, deadline: Deadline) -> int:
    port = _forwarded(monitor, deadline)
    monitor.command("netdev_add", type="hubport", id=PORT, hubid=HUB, netdev=NETWORK)
    return port


def _forwarded(monitor: Monitor, deadline: Deadline) -> int:
    """Return a forwarded port; try another port if a program binds it before QEMU does."""
    for _attempt in range(TRIES - 1):
        with suppress(HypervisorError):
            return _forward(monitor)
        deadline.check("a port for the template", name=monitor.name)
    return _forward(monitor)


def _forward(monitor: Monitor) -> int:
    port = _free_port()
    forward_rules = [{"str": f"tcp:{LOOPBACK}:{port}-:22"}]
    monitor.command(
        "netdev_add", type="user", id=NETWORK, restrict=True, ipv6=False, hostfwd=forward_rules
    )
    return port


def _take_out(monitor: Monitor, nic: str) -> None:
    monitor.set_link(nic, False)
    for name in (PORT, NETWORK):
        monitor.command("netdev_del", id=name)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])
