# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a service to systemd that it is ready: sd_notify(3), without its library."""

from __future__ import annotations

import os
import socket

# The environment variable in which systemd names the socket for reports.
VARIABLE = "NOTIFY_SOCKET"


def report_ready() -> None:
    """Report to systemd that this process is ready. Do nothing if systemd did not request it."""
    address = os.environ.get(VARIABLE, "")
    if not address:
        return
    # An abstract address begins with a zero byte, which systemd writes as @.
    place = f"\0{address[1:]}" if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.connect(place)
        line.sendall(b"READY=1")
