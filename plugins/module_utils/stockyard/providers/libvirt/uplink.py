# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The uplink of a host: the way out for the guest's second card, from the controller's side.

QEMU gets the descriptor of a tap device in a network namespace. The rules of the namespace decide
about each packet that the guest writes, and slirp4netns is the only way out of the namespace. A
process of its own guards the uplink: :mod:`.uplink_guard`.
"""

from __future__ import annotations

import errno
import fcntl
import inspect
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import HypervisorError, StockyardError
from ...model.destinations import Destination, destinations
from ...model.host import HostRecord, HostSpec
from ...model.host_info import RefusedDestination
from . import (
    network,
    processes,
    uplink_allow_rules,
    uplink_guard,
    uplink_names,
    uplink_proxy,
    uplink_rules,
    uplink_tools,
)
from .monitor import Monitor

# The guard holds a lock on this file in the host's directory.
LOCK = "uplink.lock"
# The refused attempts of a host with egress allow, in its directory.
RECORD = "refused.json"
# Seconds for which the rules accept the address of a name after its time.
GRACE = 30
# QEMU's names of the back end and of its port at the hub of the second card.
BACK_END, PORT, LABEL = "uplink", "uplink-port", "uplink"
# Seconds for the guard to open the uplink.
OPENING = 30.0
# Seconds for all processes of an uplink to end after the machine, and between two attempts.
ENDING, POLL = 10.0, 0.05


@contextmanager
def opening(
    monitor: Monitor, record: HostRecord, folder: Path, deadline: Deadline
) -> Iterator[Callable[[], bool]]:
    """Let a guard begin to open the uplink of a running machine if no guard is alive. Yield a
    function that waits for it and connects it to the machine; the function returns whether it did.
    A guard whose uplink is not connected ends with the context.

    :param folder: the host's directory.
    :raises HypervisorError: if the uplink cannot be opened, also from the function.
    """
    if is_guarded(folder):
        yield lambda: False
        return
    machine = processes.running().get(record.uuid)
    if machine is None:
        raise HypervisorError("no QEMU process runs the host.", name=monitor.name)
    controller_end, guard_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with controller_end:
        requested = json.dumps(order(machine, folder, record.spec)).encode()
        with guard_end:
            parent = _start_guard(guard_end, record.uuid)
        # A guard that has ended is reported by the function.
        with suppress(OSError):
            controller_end.sendall(requested)

        def connect() -> bool:
            controller_end.settimeout(max(deadline.within(OPENING).left(), 1.0))
            tap = _receive(controller_end, monitor.name)
            try:
                _attach(monitor, tap)
            finally:
                os.close(tap)
            controller_end.sendall(b"attached")
            return True

        try:
            yield connect
        finally:
            parent.wait(OPENING)


def is_guarded(folder: Path, lock_name: str = LOCK) -> bool:
    """Return whether a guard of a host is alive.

    :param lock_name: the file that the guard holds a lock on.
    """
    try:
        lock = os.open(folder / lock_name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def refused(folder: Path) -> tuple[RefusedDestination, ...]:
    """Return the refused attempts of a host, the most frequent first."""
    try:
        entries = json.loads((folder / RECORD).read_bytes())
        attempts = [
            RefusedDestination(
                str(entry["destination"]),
                str(entry["protocol"]),
                int(entry["port"]),
                int(entry["count"]),
            )
            for entry in entries
        ]
    except (OSError, ValueError, TypeError, KeyError):
        return ()
    return tuple(sorted(attempts, key=lambda attempt: (-attempt.count, attempt.destination)))


def delete_folder(folder: Path) -> None:
    """Delete the directory of a machine that has ended. The processes of its uplink end a moment
    later, and can write the last record in the meantime.
    """
    deadline = Deadline(ENDING)
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY) or deadline.passed():
                raise
            deadline.pause(POLL)


def order(machine: int, folder: Path, spec: HostSpec) -> dict[str, Any]:
    """Return the order of a guard.

    :param machine: the process that the guard lives as long as.
    :param folder: the host's directory.
    """
    allowed = destinations(spec.egress_allow)
    by_name = spec.egress == "allow"
    namespace: dict[str, Any] = {
        "device": uplink_rules.GUEST_DEVICE,
        "mac": uplink_rules.GATEWAY_MAC,
        "address": uplink_rules.GATEWAY,
        "netmask": str(uplink_rules.GUEST.netmask),
        "nft": uplink_tools.nft(),
    }
    if by_name:
        namespace["names"] = names(folder, allowed)
    return {
        "machine": machine,
        "lock": str(folder / LOCK),
        "text": command_text(),
        "unshare": uplink_tools.unshare(),
        "table": uplink_rules.TABLE,
        "rules": uplink_allow_rules.rules(allowed) if by_name else uplink_rules.rules(allowed),
        "slirp": uplink_tools.slirp(),
        "device": uplink_rules.EXIT_DEVICE,
        "namespace": namespace,
    }


def names(folder: Path, allowed: Sequence[Destination]) -> dict[str, Any]:
    """Return the program of the process of the names, and its settings."""
    nft = uplink_tools.nft()
    settings = {
        "names": [(entry.name, entry.port) for entry in allowed if entry.name],
        "allowed": [entry.network for entry in allowed if entry.network],
        "denied": uplink_rules.DENIED,
        "grace": GRACE,
        "address": uplink_rules.GATEWAY,
        "upstream": uplink_rules.DNS,
        "table": uplink_rules.TABLE,
        "set": uplink_allow_rules.NAMED,
        "nft": nft,
        "query": [
            nft,
            "-j",
            "list",
            "set",
            *uplink_rules.TABLE.split(),
            uplink_allow_rules.REFUSED,
        ],
        "haproxy": uplink_tools.haproxy(),
        "ports": list(uplink_proxy.LISTENERS.values()),
        "configuration": uplink_proxy.configuration(allowed, uplink_rules.GATEWAY),
        "record": str(folder / RECORD),
    }
    return {"text": f"{inspect.getsource(uplink_names)}\nmain()\n", "settings": settings}


def command_text() -> str:
    """Return the program of the guard: the SDK may be in an archive that is deleted together with
    the controller.
    """
    return f"{inspect.getsource(uplink_guard)}\nmain()\n"


def _start_guard(guard_end: socket.socket, uuid: str) -> subprocess.Popen[bytes]:
    """Start the guard; return its parent, which ends at once."""
    number = guard_end.fileno()
    return subprocess.Popen(
        [*uplink_guard.PYTHON, command_text(), "detached", str(number), uuid],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=[number],
        cwd="/",
    )


def _receive(channel: socket.socket, title: str) -> int:
    """Wait until a guard has opened the uplink; return the descriptor of the tap device."""
    try:
        message, descriptors, _flags, _address = socket.recv_fds(channel, 4096, 1)
    except OSError as error:
        message, descriptors = str(error).encode(), []
    if not descriptors:
        raise HypervisorError(
            "the uplink of the host cannot be opened.",
            name=title,
            cause=message.decode(errors="replace") or "the guard ended early",
            remedy="correct the cause and run again, or use another egress",
        )
    return descriptors[0]


def _attach(monitor: Monitor, tap: int) -> None:
    """Connect the tap device to the hub of the second card, in place of an earlier one."""
    for name in (PORT, BACK_END):
        with suppress(StockyardError):
            monitor.command("netdev_del", id=name)
    monitor.pass_file(tap, LABEL)
    monitor.command("netdev_add", type="tap", id=BACK_END, fd=LABEL)
    monitor.command(
        "netdev_add", type="hubport", id=PORT, hubid=network.UPLINK_HUB, netdev=BACK_END
    )
