# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Suspension of running machines: vCenter writes their memory next to their configuration.

vCenter changes no hardware of a suspended machine. So the setting that its network card starts
disconnected is made before the suspension. The card stays connected until then: if the controller
dies in between, the host continues to serve.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from ...clock import Deadline
from ...errors import OperationRefused, OutOfSpace, StockyardError
from ...model.host import HostRecord
from .grow import MEMORY
from .inventory import many, properties
from .lookup import Lookup
from .machines import PATIENCE, Machines

PATH, POWER, FREE = "summary.config.vmPathName", "runtime.powerState", "summary.freeSpace"


def check(lookup: Lookup, machines: Machines, records: Iterable[HostRecord]) -> None:
    """Refuse machines if their datastores lack the space for their memory.

    :raises OutOfSpace: with the MiB that are needed and those that are free.
    """
    refs = [machines.ref(record) for record in records]
    needed_mib: Counter[str] = Counter()
    for _ref, values in many(machines.session, refs, (PATH, POWER, MEMORY), "hosts"):
        if values.get(POWER) == "poweredOn":
            store = values[PATH].partition("]")[0].removeprefix("[")
            needed_mib[store] += values[MEMORY]
    for name, size_mib in needed_mib.items():
        title = f"datastore {name}"
        values = properties(machines.session, lookup.datastore_called(name), (FREE,), title)
        free_mib = values[FREE] >> 20
        if size_mib > free_mib:
            raise OutOfSpace(
                "the datastore has insufficient space to save the memory of the hosts.",
                name=title,
                cause=f"{size_mib} MiB are needed, and {free_mib} MiB are free",
                remedy="free space in the datastore",
            )


def suspend(machines: Machines, record: HostRecord, deadline: Deadline) -> None:
    """Suspend a running machine, which resumes with its network card disconnected.

    :raises OperationRefused: if the machine is off.
    """
    machine = machines.get(record)
    if machine.power == "suspended":
        return
    if machine.power != "poweredOn":
        raise OperationRefused(
            f"the host is {machine.state}, and only a running host can be suspended.",
            name=record.title,
            remedy="start the host",
        )
    machines.connect(machine, record, True, deadline, at_start=False)
    try:
        machines.tasks.run(
            "suspend the machine", record.title, machine.ref.SuspendVM_Task, deadline
        )
    except StockyardError:
        # The answer may be lost, or another controller may have suspended the machine.
        if machines.get(record).power == "suspended":
            return
        with suppress(StockyardError):
            machines.connect(machine, record, True, Deadline(PATIENCE))
        raise
