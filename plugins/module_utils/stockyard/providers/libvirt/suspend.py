# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Suspension of running machines: libvirt's managed save.

libvirt stops the guest, writes its memory to a file of its own, and ends QEMU. The daemon does this
alone: the death of the controller changes nothing. If the memory cannot be written, libvirt
deletes the file and the guest continues. :mod:`.boot` resumes the machine.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from ...clock import Deadline
from ...errors import DeadlineExceeded, OperationRefused, OutOfSpace, StockyardError
from ...model.host import HostRecord
from . import definition, grow, memory, processes
from .domains import Domains
from .faults import translated
from .monitor import Monitor
from .session import Session
from .xml.element import QEMU_NS, Element, element, parse, serialize

SYSTEM_SAVES = Path("/var/lib/libvirt/qemu/save")
# MiB of device state and headers for each machine.
OVERHEAD = 16
POLL = 0.1
# An argument of QEMU about one memory module: its backend, or the module itself.
_MODULE = re.compile(rf"\bid=(?:{grow.DIMM}|{grow.BACKEND})(\d+)\b")
# Seconds for libvirt to end a save that took too long, and to continue the guest.
ABORT_WAIT = 10.0


def saves_folder(session: Session | None) -> Path:
    """Return the directory in which libvirt saves memory."""
    return Path(session.config, "libvirt", "qemu", "save") if session else SYSTEM_SAVES


def check(domains: Domains, records: Iterable[HostRecord], folder: Path) -> None:
    """Refuse machines that cannot be suspended, or not all together.

    :param folder: the directory of saved memory.
    :raises OutOfSpace: with the MiB that are needed and those that are free.
    :raises OperationRefused: if the saved memory of a machine could not be loaded.
    """
    pids, needed_mib = processes.running(), 0
    for record in records:
        domain = domains.find(record)
        with translated("read the domain", record.title):
            if not domain.isActive():
                continue
            size_kib = domain.maxMemory()
        added_mib = record.size.memory_mib - record.template_size.memory_mib
        _refuse_unknown_memory(domain, record)
        pid = pids.get(record.uuid)
        saved_mib = memory.saved_mib(pid, size_kib) if pid else None
        needed_mib += (size_kib // 1024 if saved_mib is None else saved_mib) + added_mib + OVERHEAD
    existing_folder = next(path for path in (folder, *folder.parents) if path.exists())
    free_mib = shutil.disk_usage(existing_folder).free >> 20
    if needed_mib > free_mib:
        raise OutOfSpace(
            "libvirt has insufficient space to save the memory of the hosts.",
            name=f"directory {folder}",
            cause=f"up to {needed_mib} MiB are needed, and {free_mib} MiB are free",
            remedy="free space in the directory",
        )


def suspend(domain: Any, record: HostRecord, deadline: Deadline) -> None:
    """Save the memory of a running machine, and end the machine.

    :raises OperationRefused: if the machine is off and has no saved memory, or the saved memory
        could not be loaded.
    :raises DeadlineExceeded: if the memory is not saved in time. The machine continues to run.
    """
    wait_for_save(domain, record.title, deadline)
    with translated("read the domain", record.title):
        if not domain.isActive():
            if domain.hasManagedSaveImage():
                return
            raise OperationRefused(
                "the host is off, and only a running host can be suspended.",
                name=record.title,
                remedy="start the host",
            )
    _refuse_unknown_memory(domain, record)
    # A fork of an earlier version still leaves its RAM out of streams.
    Monitor(domain, record.title).leave_out_ram(False)
    _save(domain, record.title, deadline)


def wait_for_save(domain: Any, title: str, deadline: Deadline) -> None:
    """Wait until no save is in progress: another controller can have started one, and died."""
    import libvirt

    with translated("read the domain", title):
        while domain.state() == [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE]:
            deadline.check("saving the memory", name=title)
            deadline.pause(POLL)


def _save(domain: Any, title: str, deadline: Deadline) -> None:
    errors: list[StockyardError] = []

    def save() -> None:
        try:
            with translated("save the memory", title):
                domain.managedSave(0)
        except StockyardError as error:
            errors.append(error)

    # The call returns when everything is saved: only another thread can end it.
    thread = Thread(target=save, daemon=True)
    thread.start()
    thread.join(deadline.left())
    late = thread.is_alive()
    if late:
        with suppress(StockyardError), translated("end the save", title):
            domain.abortJob()
        thread.join(ABORT_WAIT)
    with translated("read the domain", title):
        if not domain.isActive() and domain.hasManagedSaveImage():
            return
    if late:
        raise DeadlineExceeded(
            f"the memory was not saved within {deadline.seconds:g} s; the host continues to run.",
            name=title,
            remedy="set a longer timeout",
        )
    if errors:
        raise errors[0]


def complete_definition(domain: Any, record: HostRecord) -> None:
    """Add the memory that was plugged in to the definition in a saved image: libvirt does not know
    of it, and without it the saved memory cannot be loaded. Ports that were published since the
    start are added too.
    """
    with translated("read the saved definition", record.title):
        saved_definition = parse(domain.managedSaveGetXMLDesc(0))
    count, size_mib = grow.modules(record, record.size)
    has_other_memory = _set_modules(saved_definition, count, size_mib)
    if definition.set_forwards(saved_definition, record) or has_other_memory:
        with translated("change the saved definition", record.title):
            domain.managedSaveDefineXML(serialize(saved_definition), 0)


def _set_modules(definition: Element, count: int, size_mib: int) -> bool:
    """Give a definition a number of memory modules; return whether it changed."""
    command_line = definition.find(f"{{{QEMU_NS}}}commandline")
    if command_line is None:
        return False
    arguments = [argument.get("value", "") for argument in command_line]
    arguments_after = _without_modules(arguments, count)
    for number in range(count):
        module_id, backend = f"{grow.DIMM}{number}", f"{grow.BACKEND}{number}"
        if not any(argument.startswith(f"pc-dimm,id={module_id},") for argument in arguments):
            arguments_after += ["-object", f"memory-backend-ram,id={backend},size={size_mib}M"]
            arguments_after += ["-device", f"pc-dimm,id={module_id},memdev={backend}"]
    command_line[:] = [element(f"{{{QEMU_NS}}}arg", value=argument) for argument in arguments_after]
    return arguments_after != arguments


def _without_modules(arguments: list[str], count: int) -> list[str]:
    """Return the arguments without those of modules that were unplugged."""
    remaining: list[str] = []
    for argument in arguments:
        match = _MODULE.search(argument)
        if match and int(match[1]) >= count:
            # The option that the value belongs to.
            remaining.pop()
        else:
            remaining.append(argument)
    return remaining


def _refuse_unknown_memory(domain: Any, record: HostRecord) -> None:
    """Refuse a machine with other memory than its record says: its saved memory could not be
    loaded.
    """
    count, _size_mib = grow.modules(record, record.size)
    expected_ids = {f"{grow.DIMM}{number}" for number in range(count)}
    if grow.plugged_modules(Monitor(domain, record.title)) != expected_ids:
        raise OperationRefused(
            "the host has more or less memory than its record says.",
            name=record.title,
            cause="a resize was interrupted, or another program plugged memory in",
            remedy="converge the host, or shut it down instead",
        )
