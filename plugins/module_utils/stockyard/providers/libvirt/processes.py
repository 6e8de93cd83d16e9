# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU processes of this machine, independent of libvirt's reports.

A user can have several session daemons of libvirt that do not know each other. Each shows the
machines of another as off. The processes and QEMU's locks on disks show the true state.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import struct
from collections.abc import Callable
from pathlib import Path

from ...clock import Deadline
from ...errors import OperationRefused

PROC = Path("/proc")
# fcntl(2); Python has no name for it.
F_OFD_GETLK = 36
FLOCK = "hhqqi4x"
# QEMU's block layer locks one byte for each permission that it holds (block/file-posix.c): this
# byte is for writing.
WRITER = 101
# Seconds for a QEMU to end after libvirt has reported its machine as off.
ENDING, POLL = 3.0, 0.1


def running() -> dict[str, int]:
    """Return the QEMU process of every running machine: uuid to process ID."""
    processes = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            arguments = _command_line(entry)
            if arguments and "qemu" in arguments[0] and "-uuid" in arguments[:-1]:
                processes[arguments[arguments.index("-uuid") + 1]] = int(entry.name)
    return processes


def raise_descriptors(uuid: str) -> None:
    """Raise the limit of open descriptors of a machine's QEMU to its hard limit.

    Each forwarded connection uses one descriptor. The usual limit of 1,024 is below the number of
    connections that the TLS front of a host serves.
    """
    pid = running().get(uuid)
    if pid is None:
        return
    # The QEMU of another user, as the system's libvirt starts it, has no forwards.
    with contextlib.suppress(OSError):
        _soft_limit, hard_limit = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def is_written(disk: Path) -> bool:
    """Return whether a QEMU has a disk open for writing."""
    try:
        handle = os.open(disk, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        lock_request = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, WRITER, 1, 0)
        return bool(
            struct.unpack(FLOCK, fcntl.fcntl(handle, F_OFD_GETLK, lock_request))[0] != fcntl.F_UNLCK
        )
    finally:
        os.close(handle)


def refuse_if_running(
    uuid: str, disk: Path, title: str, is_active: Callable[[], bool] = lambda: False
) -> None:
    """Refuse to change a machine that libvirt reports as off while a QEMU runs it or writes to its
    disk.

    The check waits for a QEMU that is ending or that another controller has just started.

    :param is_active: returns whether libvirt reports by now that the machine runs.
    :raises OperationRefused: with the process.
    """
    grace = Deadline(ENDING)
    while (pid := running().get(uuid, 0)) or is_written(disk):
        if is_active():
            return
        if grace.passed():
            raise detached(pid, disk, title)
        grace.pause(POLL)


def detached(pid: int, disk: Path, title: str) -> OperationRefused:
    """Return the error about a machine that runs outside of the queried libvirt."""
    evidence = f"QEMU process {pid} runs the host" if pid else f"a QEMU process writes to {disk}"
    instruction = f"end process {pid}" if pid else "end that process"
    return OperationRefused(
        f"{evidence}, although libvirt reports that it is off.",
        name=title,
        cause="another libvirt daemon of this user started the host, or the daemon has lost its "
        "runtime directory",
        remedy="run again with the XDG_RUNTIME_DIR and XDG_CONFIG_HOME of the shell that "
        "started the host; if that daemon is unreachable, shut the guest down or "
        f"{instruction}, and run again",
    )


def _command_line(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
