# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user at the other end of a connection over the loopback, as the kernel lists it."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

TABLES = {4: Path("/proc/net/tcp"), 16: Path("/proc/net/tcp6")}
# The columns of a table.
LOCAL, REMOTE, USER = 1, 2, 7


def user_of(client: Any, server: Any) -> str:
    """Return the numeric ID of the user who opened a connection; empty if it is not known.

    :param client: the address and the port of the client, as sockets return them.
    :param server: the address and the port of this process.
    """
    try:
        size, local = _entry(client)
        _size, remote = _entry(server)
        lines = TABLES[size].read_text(encoding="ascii").splitlines()[1:]
    except (OSError, ValueError, TypeError, IndexError):
        return ""
    for line in lines:
        columns = line.split()
        if len(columns) > USER and columns[LOCAL] == local and columns[REMOTE] == remote:
            return columns[USER]
    return ""


def _entry(place: Any) -> tuple[int, str]:
    """Return the length of an address, and the address with its port as the tables have it."""
    address, port = place[0], place[1]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    data = socket.inet_pton(family, address)
    words = [data[start : start + 4] for start in range(0, len(data), 4)]
    text = "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
    return len(data), f"{text}:{port:04X}"
