# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that libvirt, the processes of this machine and the storage agree about a yard's machines.

If they do not, the connection leads to another daemon of the user, or the hosts were created in
another storage directory. A plan that is based on such an observation would replace running hosts.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from ...errors import OperationRefused
from ...model.host import HostRecord
from ...model.observation import Record
from . import processes
from .domains import Domains
from .faults import translated
from .store import Store
from .xml.element import parse

ALIVE = ("running", "paused")


def check(
    store: Store, domains: Domains, machines: Iterable[tuple[Record, str]], owner: str
) -> None:
    """Refuse an observation that the processes or the storage contradict.

    :param machines: every record with the state that libvirt reports.
    :raises OperationRefused: with the host, and the process or the directory.
    """
    records = {record.uuid: (record, state) for record, state in machines}
    for record, state in records.values():
        if record.owner == owner and isinstance(record, HostRecord) and state not in ALIVE:
            _check_storage(store, domains, record)
    # In most observations this list is empty, and no process is read.
    doubtful_uuids = [uuid for uuid in store.machines() if _is_doubtful(records.get(uuid), owner)]
    pids = processes.running() if doubtful_uuids else {}
    for uuid in pids.keys() & set(doubtful_uuids):
        title = records[uuid][0].title if uuid in records else f"machine {uuid}"
        processes.refuse_if_running(
            uuid, store.disk_of(uuid), title, partial(domains.is_active, uuid)
        )


def _is_doubtful(machine: tuple[Record, str] | None, owner: str) -> bool:
    """Return whether a process may run a machine that libvirt does not report as running."""
    if machine is None:
        return True
    record, state = machine
    return record.owner == owner and state not in ALIVE and record.phase != "frozen"


def _check_storage(store: Store, domains: Domains, record: HostRecord) -> None:
    """Refuse a host if its files are in another directory."""
    if (store.hosts / record.uuid).exists():
        return
    domain = domains.find_existing(record)
    if domain is None:
        return
    with translated("read the domain", record.title):
        source = parse(domain.XMLDesc(0)).find("./devices/disk/source")
    disk = Path("" if source is None else source.get("file", ""))
    if disk.is_file() and store.hosts not in disk.parents:
        raise OperationRefused(
            f"the files of the host are in another storage, {disk.parents[2]}.",
            name=record.title,
            cause=f"this run uses the storage {store.root}",
            remedy=f"set storage to {disk.parents[2]}, or set HOME and XDG_DATA_HOME to their "
            "values at the creation of the host",
        )
