# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forwards of container ports, from the controller's side. A process of its own sets them:
:mod:`.port_follower`.
"""

from __future__ import annotations

import inspect
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import HypervisorError
from ...model import untrusted
from ...model.host import GUEST_PORTS, HostRecord
from . import port_follower, processes, uplink

# The follower holds a lock on this file in the host's directory.
LOCK = "ports.lock"
# The ports that are forwarded now, in the same directory.
RECORD = "ports.json"
# Seconds for a running guest to answer, and for the follower to report that.
PATIENCE, REPORT = 60.0, 45.0
ENDED = "the process that forwards them has ended"
MALFORMED = "the record of the forwarded ports cannot be read"


def follow(
    record: HostRecord, folder: Path, uris: list[str], line: Sequence[str], deadline: Deadline
) -> bool:
    """Start the follower of a running host if none is alive; return whether it was started.

    :param folder: the host's directory.
    :param uris: URIs that lead to libvirt.
    :param line: the command that leads to the relay in the guest.
    :raises HypervisorError: if the relay does not answer.
    """
    if is_followed(folder):
        return False
    machine = processes.running().get(record.uuid)
    if machine is None:
        raise HypervisorError("no QEMU process runs the host.", name=record.title)
    patience = max(deadline.within(PATIENCE).left(), 1.0)
    controller_end, follower_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with controller_end:
        with follower_end:
            parent = _start(follower_end, record.uuid)
        with suppress(OSError):
            requested = order(record, machine, folder, uris, line, patience)
            controller_end.sendall(json.dumps(requested).encode())
        controller_end.settimeout(patience + REPORT)
        try:
            answer = controller_end.recv(port_follower.MESSAGE).decode(errors="replace")
        except OSError as error:
            answer = str(error)
        parent.wait(REPORT)
    if answer != "following":
        raise HypervisorError(
            "the ports of containers cannot be forwarded.",
            name=record.title,
            cause=answer or "the process that forwards them ended early",
            remedy="build the template again if an earlier version of stockyard built it; "
            "otherwise correct the cause and run again",
        )
    return True


def is_followed(folder: Path) -> bool:
    """Return whether the follower of a host is alive."""
    return uplink.is_guarded(folder, LOCK)


def state(folder: Path) -> tuple[tuple[int, ...], str]:
    """Return the ports of a host's containers that are forwarded now, and why they are not up to
    date; empty if they are.
    """
    ports: tuple[int, ...] = ()
    problem = MALFORMED
    with suppress(OSError, untrusted.MalformedData, ValueError, TypeError, KeyError):
        entry = json.loads((folder / RECORD).read_bytes())
        ports, problem = tuple(int(port) for port in entry["ports"]), str(entry["problem"])
    return (ports, problem) if is_followed(folder) else ((), ENDED)


def order(
    record: HostRecord,
    machine: int,
    folder: Path,
    uris: list[str],
    line: Sequence[str],
    patience: float,
) -> dict[str, Any]:
    """Return the order of a follower.

    :param machine: the process that the follower lives as long as.
    :param patience: seconds until the first list must be carried out.
    """
    return {
        "uuid": record.uuid,
        "machine": machine,
        "lock": str(folder / LOCK),
        "record": str(folder / RECORD),
        "uris": uris,
        "line": list(line),
        "address": record.address,
        "fixed_ports": sorted(GUEST_PORTS),
        "declared_ports": sorted(
            port for address, port in record.published if address == record.address
        ),
        "patience": patience,
    }


def command_text() -> str:
    """Return the program of the follower: the SDK may be in an archive that is deleted together
    with the controller.
    """
    return f"{inspect.getsource(port_follower)}\nmain()\n"


def _start(follower_end: socket.socket, uuid: str) -> subprocess.Popen[bytes]:
    """Start the follower; return its parent, which ends at once."""
    number = follower_end.fileno()
    return subprocess.Popen(
        [sys.executable, "-c", command_text(), str(number), uuid],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=[number],
        cwd="/",
    )
