# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Branches on vSphere: each child is an instant clone of its running parent.

vCenter copies the memory and the devices of the parent when it creates the child. So a child
continues from the moment of its own creation, and the parent must run until its last child exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace

from ...clock import Deadline
from ...errors import Conflict, NotFound, Unsupported
from ...model.branch import BranchRecord, branch_of
from ...model.host import HostRecord
from ...model.template import TemplateRecord
from ...model.volume import VolumeRecord
from . import branch_records
from .hosts import Hosts
from .locks import DistributedLocks
from .machine_cache import Reading
from .register import Register, Values


class VsphereBranches:
    """The branches of one yard's folder."""

    def __init__(
        self, hosts: Hosts, register: Register, reading: Reading, locks: DistributedLocks
    ) -> None:
        self.hosts = hosts
        self.register = register
        self.reading = reading
        self.locks = locks
        self._held: dict[str, ExitStack] = {}

    def all(self) -> list[BranchRecord]:
        return branch_records.read(self.register.read().values)[0]

    def create(
        self,
        host: HostRecord,
        template: TemplateRecord,
        current_time: float,
        deadline: Deadline,
        volumes: Sequence[VolumeRecord] = (),
    ) -> BranchRecord:
        if volumes:
            raise _without_volumes(host.title)
        source = self.hosts.parent(host)
        record = branch_of(host, template, current_time, "frozen")
        self.hosts.forks.check_children(host, source, record, deadline)
        lock = ExitStack()
        # The lock is held until the release. If it is free, the controller died.
        lock.enter_context(self.locks.held(branch_records.lock_of(record), deadline))
        self._held[record.uuid] = lock
        try:
            self.register.change(lambda values: branch_records.write(values, record))
        except BaseException:
            self._unlock(record)
            raise
        return record

    def copy_volume(self, record: VolumeRecord, branch: BranchRecord, deadline: Deadline) -> None:
        raise _without_volumes(branch.title)

    def check_template(self, host: HostRecord) -> None:
        return

    def fork_template(
        self, record: TemplateRecord, branch: BranchRecord, deadline: Deadline
    ) -> None:
        raise Unsupported(
            "a template cannot be created from a host on vSphere.",
            name=record.title,
            cause="an instant clone keeps the disks of its parent, with the secrets of the host",
            remedy="prepare a source, and declare it as source",
        )

    def drop_volumes(
        self, child: HostRecord | TemplateRecord, branch: BranchRecord, deadline: Deadline
    ) -> None:
        return

    def fork(
        self,
        host: HostRecord,
        branch: BranchRecord,
        deadline: Deadline,
        copies: Sequence[VolumeRecord] = (),
    ) -> None:
        index = self.reading.current(dict(self.register.read().values))
        parent = index.hosts.get(branch.parent)
        if parent is None:
            raise NotFound(
                "the parent of the branch no longer exists.",
                name=branch.title,
                remedy="branch another host",
            )
        self.hosts.make_child(host, parent, branch.uuid, deadline)

    def release(self, record: BranchRecord) -> None:
        self._unlock(record)

        def edit(values: Values) -> None:
            if any(branch.uuid == record.uuid for branch in branch_records.read(values)[0]):
                branch_records.write(values, replace(record, phase="released"))
            self._prune(values, record.owner)

        self.register.change(self.reading.stamped(edit, refresh=True))

    def prune(self, owner: str) -> None:
        if branch_records.read(self.register.read().values)[0]:
            self.register.change(
                self.reading.stamped(lambda values: self._prune(values, owner), refresh=True)
            )

    def _prune(self, values: Values, owner: str) -> None:
        branch_records.prune(values, self.reading.known, owner, self.locks.now())

    def _unlock(self, record: BranchRecord) -> None:
        # Without its lock, a branch may already be deleted; its hosts do not need it.
        with suppress(Conflict):
            self._held.pop(record.uuid, ExitStack()).close()


def _without_volumes(title: str) -> Unsupported:
    return Unsupported(
        "a host with volumes cannot be branched.",
        name=title,
        cause="volumes on vSphere are independent disks, which no clone copies",
        remedy="detach its volumes, and run again",
    )
