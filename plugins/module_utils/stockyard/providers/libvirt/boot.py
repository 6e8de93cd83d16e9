# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start of a machine that is off: from its saved memory if libvirt has it, else from its disk.

libvirt saves the memory of a machine if a user asks for that (virsh managedsave, Save in
virt-manager) and when the hypervisor shuts down (libvirt-guests). A start resumes the saved memory:
the guest loses nothing but time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import GuestBroken, HypervisorError, StockyardError
from ...model.host import HostRecord
from ...model.observation import Record
from . import disks, network, power, processes, suspend
from .faults import translated
from .monitor import Monitor

# Phrases in the errors of QEMU and libvirt about saved memory that can never be loaded. After any
# other failure the saved memory is retained.
UNLOADABLE = (
    "load of migration failed",
    "failed to read qemu header",
    "image magic is incorrect",
    "save image is incomplete",
    "image version is not supported",
    "domain XML in save image",
)


def check(record: Record, disk: Path) -> None:
    """Check whether a machine that is off can be started; nothing is changed.

    :raises OperationRefused: if a QEMU runs the machine already, although libvirt reports that it
        is off.
    :raises Conflict: if another program listens on one of its ports.
    """
    processes.refuse_if_running(record.uuid, disk, record.title)
    if isinstance(record, HostRecord):
        network.check_own_ports(record)


def start(domain: Any, record: Record, disk: Path, deadline: Deadline) -> str:
    """Start a machine, or resume a paused machine, with its network link down.

    :return: a warning about saved memory that was lost; usually empty.
    :raises StockyardError: as :func:`check` does.
    :raises GuestBroken: if the disk is proven to be unusable.
    """
    title, warning = record.title, ""
    suspend.wait_for_save(domain, title, deadline)
    with translated("read the domain", title):
        is_active = domain.isActive()
    if not is_active:
        check(record, disk)
        if isinstance(record, HostRecord) and _is_saved(domain, title):
            suspend.complete_definition(domain, record)
        warning = _power_on(domain, title, disk, deadline)
    Monitor(domain, title).set_link(network.nic(record), False)
    _continue(domain, title)
    return warning


def stop(domain: Any, record: Record, disk: Path, grace: Deadline) -> None:
    """Shut a machine down.

    A machine with saved memory is resumed first; otherwise its next start would undo the shutdown.
    """
    with translated("read the domain", record.title):
        has_saved_memory = not domain.isActive() and domain.hasManagedSaveImage()
    if has_saved_memory:
        start(domain, record, disk, grace)
    power.stop(domain, record.title, grace)


def _power_on(domain: Any, title: str, disk: Path, deadline: Deadline) -> str:
    try:
        _create(domain, title)
    except HypervisorError as error:
        if _is_saved(domain, title) and any(phrase in error.cause for phrase in UNLOADABLE):
            return _discard(domain, title, error)
        reason = disks.damage(disk, deadline)
        if reason:
            raise GuestBroken(
                f"{reason}.",
                name=title,
                cause=error.cause,
                remedy="replace the host, or restore its disk",
            ) from error
        raise
    return ""


def _continue(domain: Any, title: str) -> None:
    """Continue a paused machine. One that runs already was started by a controller that died."""
    import libvirt

    with translated("resume the domain", title):
        if domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
            domain.resume()


def _create(domain: Any, title: str) -> None:
    import libvirt

    with translated("start the domain", title):
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)


def _is_saved(domain: Any, title: str) -> bool:
    with translated("read the domain", title):
        return bool(domain.hasManagedSaveImage())


def _discard(domain: Any, title: str, reason: StockyardError) -> str:
    """Boot a machine from its disk if its saved memory cannot be loaded."""
    with translated("discard the saved memory", title):
        memory = domain.maxMemory() // 1024
        domain.managedSaveRemove()
    _create(domain, title)
    return (
        f"the saved memory ({memory} MiB) could not be loaded and was discarded; the host booted "
        f"from its disk, and its earlier processes are lost. Cause: {reason.cause}"
    )
