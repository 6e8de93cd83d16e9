# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Freezing a running machine and resuming copies of it.

The method: the template's RAM is a shared file, so the migration stream contains the device state
alone (x-ignore-shared, QEMU 4.0 and later). A fork maps that file privately and reads the stream.
QEMU receives open descriptors, because libvirt's sandbox forbids it to open files and start
processes by itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import HypervisorError
from .faults import translated
from .monitor import Monitor

LABEL = "state"


def save_state(domain: Any, state: Path, name: str, deadline: Deadline) -> None:
    """Suspend a running domain and write its device state to a file.

    Its RAM is in its own file already. The domain stays suspended, and its RAM does not change.
    """
    monitor = Monitor(domain, name)
    with translated("suspend", name):
        domain.suspend()
    monitor.leave_out_ram(True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(state, flags, 0o600)
    try:
        monitor.pass_file(descriptor, LABEL)
        monitor.command("migrate", uri=f"fd:{LABEL}")
        monitor.migrated(deadline)
    finally:
        os.close(descriptor)


def resume(domain: Any, state: Path, name: str, deadline: Deadline) -> None:
    """Load a frozen state into a domain that waits for it, and resume the domain."""
    monitor = Monitor(domain, name)
    monitor.leave_out_ram(True)
    try:
        descriptor = os.open(state, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HypervisorError(
            "the template's state cannot be read.", name=name, cause=str(error)
        ) from error
    try:
        monitor.pass_file(descriptor, LABEL)
        monitor.command("migrate-incoming", uri=f"fd:{LABEL}")
        monitor.migrated(deadline)
        # If libvirt saves this machine later, the saved state must contain its memory.
        monitor.leave_out_ram(False)
    finally:
        os.close(descriptor)
    with translated("resume", name):
        domain.resume()
