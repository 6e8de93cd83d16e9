# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Branches of the memory hypervisor: one directory for each, with copies of the disk and the
volumes of the parent.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...clock import Deadline
from ...errors import HypervisorError, OperationRefused
from ...files import write_atomic
from ...hypervisor.records import decode_branch, encode
from ...model.branch import BranchRecord, branch_of
from ...model.host import HostRecord
from ...model.template import TemplateRecord
from ...model.volume import VolumeRecord
from ..common.branch_locks import BranchLocks
from ..common.os_errors import translate_os_error
from .disks import Disks
from .machines import check_free, find, hosts_of
from .state import Machine, Machines, StateFile
from .volumes import FolderDisks, MemoryVolumes, stand_in

RECORD, DISK, VOLUMES = "branch.json", "disk", "volumes"


class MemoryBranches:
    """The branches of one state file."""

    def __init__(self, state: StateFile, disks: Disks, volumes: MemoryVolumes) -> None:
        self.state = state
        self.disks = disks
        self.volumes = volumes
        self.folder = state.folder / "branches"
        self.locks = BranchLocks()

    def all(self) -> list[BranchRecord]:
        records = (self._read(path) for path in sorted(self.folder.glob(f"*/{RECORD}")))
        return list(records)

    def create(
        self,
        host: HostRecord,
        template: TemplateRecord,
        current_time: float,
        deadline: Deadline,
        volumes: Sequence[VolumeRecord] = (),
    ) -> BranchRecord:
        with self.state.change() as machines:
            machine, _record = find(machines, host)
            if machine.state != "running":
                raise OperationRefused(
                    "the host does not run.",
                    name=host.title,
                    remedy="start the host, and run again",
                )
            if set(machine.volumes) != {volume.uuid for volume in volumes}:
                raise OperationRefused(
                    "the machine of the host has other disks than its record.",
                    name=host.title,
                    cause=f"it has {len(machine.volumes)} volumes, and {len(volumes)} are attached",
                    remedy="restart the host, and run again",
                )
            record = branch_of(host, template, current_time, "frozen", volumes)
            folder = self.folder / record.uuid
            with translate_os_error("The branch cannot be created.", record.title):
                folder.mkdir(parents=True, mode=0o700)
                # The lock is held until the release. If it is free, the controller died.
                self.locks.hold(folder)
                shutil.copytree(self.disks.path(host), folder / DISK, symlinks=True)
                for volume in record.volumes:
                    content = self.volumes.content(volume.uuid)
                    shutil.copytree(content, folder / VOLUMES / volume.uuid, symlinks=True)
                self._write(record)
        return record

    def copy_volume(self, record: VolumeRecord, branch: BranchRecord, deadline: Deadline) -> None:
        uuid = next(volume.uuid for volume in branch.volumes if volume.name == record.source)
        self.volumes.copy(record, self.folder / branch.uuid / VOLUMES / uuid)

    def fork(
        self,
        host: HostRecord,
        branch: BranchRecord,
        deadline: Deadline,
        copies: Sequence[VolumeRecord] = (),
    ) -> None:
        copy_of = {record.source: record.uuid for record in copies}
        with self.state.change() as machines:
            machine, _record = find(machines, host)
            source, root = self.folder / branch.uuid, self.disks.path(host)
            self.disks.copy_folder(source / DISK, host)
            folders: dict[Path, Path] = {}
            for volume in branch.volumes:
                content = self.volumes.content(volume.uuid)
                if volume.name in copy_of:
                    folders[content] = self.volumes.content(copy_of[volume.name])
                else:
                    folders[content] = stand_in(root, volume.uuid)
                    shutil.copytree(source / VOLUMES / volume.uuid, folders[content], symlinks=True)
            FolderDisks(root, dict).move_mounts(folders)
            uuids = tuple(copy_of.get(volume.name, volume.uuid) for volume in branch.volumes)
            machines[host.domain] = replace(machine, state="running", link=False, volumes=uuids)

    def check_template(self, host: HostRecord) -> None:
        return

    def fork_template(
        self, record: TemplateRecord, branch: BranchRecord, deadline: Deadline
    ) -> None:
        with self.state.change() as machines:
            check_free(machines, record)
            source, root = self.folder / branch.uuid, self.disks.path(record)
            self.disks.copy_folder(source / DISK, record)
            uuids = tuple(volume.uuid for volume in branch.volumes)
            for uuid in uuids:
                shutil.copytree(source / VOLUMES / uuid, stand_in(root, uuid), symlinks=True)
            folders = {self.volumes.content(uuid): stand_in(root, uuid) for uuid in uuids}
            FolderDisks(root, dict).move_mounts(folders)
            machines[record.domain] = Machine(encode(record), state="running", volumes=uuids)

    def drop_volumes(
        self, child: HostRecord | TemplateRecord, branch: BranchRecord, deadline: Deadline
    ) -> None:
        with self.state.change() as machines:
            machine, _record = find(machines, child)
            root = self.disks.path(child)
            dropped = {uuid for uuid in machine.volumes if stand_in(root, uuid).exists()}
            uuids = tuple(uuid for uuid in machine.volumes if uuid not in dropped)
            machines[child.domain] = replace(machine, volumes=uuids)
            for uuid in dropped:
                shutil.rmtree(stand_in(root, uuid))

    def release(self, record: BranchRecord) -> None:
        self.locks.drop(self.folder / record.uuid)
        with self.state.change() as machines:
            if (self.folder / record.uuid / RECORD).exists():
                self._write(replace(record, phase="released"))
            self.prune_locked(record.owner, machines)

    def prune(self, owner: str) -> None:
        if self.folder.is_dir():
            with self.state.change() as machines:
                self.prune_locked(owner, machines)

    def refuse_if_used(self, template: TemplateRecord) -> None:
        """Refuse to delete a template that branches come from.

        :raises OperationRefused: with the branches.
        """
        key = (template.owner, template.tenant, template.name, template.generation)
        titles = [
            record.title
            for record in self.all()
            if (record.owner, record.tenant, record.template, record.generation) == key
        ]
        if titles:
            raise OperationRefused(
                f"the disk of the template is under {', '.join(titles[:10])}.",
                name=template.title,
                remedy="delete these branches first",
            )

    def prune_locked(self, owner: str, machines: Machines) -> None:
        """Do the same as :meth:`prune`, under the lock of all changes."""
        used = {host.branch for host in hosts_of(machines)}
        for record in self.all():
            if record.owner == owner and record.uuid not in used:
                self._delete_if_free(self.folder / record.uuid)
        # A controller that died before it wrote the record.
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            if not (folder / RECORD).exists():
                self._delete_if_free(folder)

    def _delete_if_free(self, folder: Path) -> None:
        with self.locks.tried(folder) as is_free:
            if is_free:
                shutil.rmtree(folder)

    def _write(self, record: BranchRecord) -> None:
        write_atomic(self.folder / record.uuid / RECORD, encode(record), durable=False)

    def _read(self, path: Path) -> BranchRecord:
        try:
            text = path.read_bytes()
        except OSError as error:
            raise HypervisorError(
                "the record of a branch cannot be read.", name=str(path), cause=str(error)
            ) from error
        return decode_branch(text)
