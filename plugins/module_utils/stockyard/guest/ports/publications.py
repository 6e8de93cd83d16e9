# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports that Docker publishes: each has a process of docker-proxy for as long as its container
runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise

FOLDER = "/run/stockyard"
# The socket of the relay, and the file that exists if the host has one: a fork and a template of
# the host have another machine ID.
SOCKET = f"{FOLDER}/container-ports.sock"
MARKER = f"{FOLDER}/container-ports."
MACHINE_ID = "/etc/machine-id"
PROXY = "docker-proxy"
# The names by which the process is known before and after it becomes docker-proxy.
PROGRAMS = (PROXY, "ask-for-port")
# The addresses of a guest at which forwarded connections arrive.
ARRIVALS = ("0.0.0.0", "10.0.2.15")  # noqa: S104  # does not listen


def forwarded_port(arguments: Sequence[str]) -> int:
    """Return the port that the arguments of docker-proxy publish to other machines with TCP; 0 if
    they publish none.
    """
    options = dict(pairwise(arguments))
    port = options.get("-host-port", "")
    if options.get("-proto") != "tcp" or options.get("-host-ip") not in ARRIVALS:
        return 0
    return int(port) if port.isascii() and port.isdigit() and int(port) < 1 << 16 else 0


def publications(folder: str = "/proc") -> dict[int, int]:
    """Return the published port of each process that is, or becomes, docker-proxy: process ID to
    port.
    """
    ports = {}
    for name in os.listdir(folder):
        if name.isdigit():
            try:
                with open(f"{folder}/{name}/cmdline", "rb") as handle:
                    arguments = os.fsdecode(handle.read()).split("\0")
            except OSError:
                continue
            is_proxy = any(word.rpartition("/")[2] in PROGRAMS for word in arguments[:4])
            if is_proxy and (port := forwarded_port(arguments)):
                ports[int(name)] = port
    return ports


def marker() -> str:
    """Return the path of the file that exists if this host has a relay."""
    with open(MACHINE_ID, encoding="ascii") as handle:
        return MARKER + handle.read().strip()
