# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Branches: the state of a running host, frozen while the host continues.

The memory of the host is migrated into a *twin*: an equal machine that waits and whose RAM is in
files. The host runs until the last pages; only an emulated host of QEMU before 9.0 is stopped
before. When the migration is complete, the host gets an overlay, so the content of its disk at that
moment becomes a layer. The twin then writes the device state into a file. RAM, state and layer can
be forked like a template. The volumes of the host get overlays at the same moment. The suspended
twin ends when the branch is released, because libvirt answers no other request about domains until
the process of an ended domain is gone, which delayed the children.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import (
    HypervisorError,
    InvalidInput,
    NotFound,
    OperationRefused,
    Unsupported,
)
from ...files import link, write_atomic
from ...hypervisor.records import decode_branch
from ...model import untrusted
from ...model.branch import BranchRecord, branch_of
from ...model.host import HostRecord
from ...model.observation import OrphanedFile, SweepResult
from ...model.template import TemplateRecord
from ...model.volume import VolumeRecord
from ..common import ownership
from ..common.branch_locks import BranchLocks
from . import (
    branch_source,
    designer,
    disk_layers,
    disks,
    fork,
    frozen,
    machine,
    network,
    power,
    processes,
)
from .branched_volumes import BranchedVolumes
from .disk_layers import DiskLayers
from .domains import Domains
from .faults import translated
from .images import Images
from .monitor import Monitor
from .store import Store, make
from .switchover_process import SwitchOverProcess
from .volumes import LibvirtVolumes
from .xml.domain import Domain
from .xml.element import BRANCH_NS, Element, parse, serialize

DISK, STATE, RAM, NOTE = "disk.qcow2", "state", "ram", "owner.json"
# The chain of a host's disk is shortened before it has more layers than this.
LONGEST_CHAIN = 7
POLL = 0.05
# The size of a block of the guests' file system.
BLOCK_KIB = 4


class Branches:
    """The branches of one libvirt connection and its storage.

    :param uri: the URI of the hypervisor, as users name it.
    :param uris: URIs that lead to the connection's daemon, for the process of a switch-over.
    :param registry: the store's lock, under which records change.
    :param volumes: the volumes of the store.
    """

    def __init__(
        self,
        uri: str,
        store: Store,
        domains: Domains,
        images: Images,
        uris: Callable[[], list[str]],
        registry: Callable[[], AbstractContextManager[None]],
        volumes: LibvirtVolumes,
    ) -> None:
        self.uri = uri
        self.store = store
        self.domains = domains
        self.images = images
        self.uris = uris
        self.registry = registry
        self.volumes = volumes
        self.branched_volumes = BranchedVolumes(store, volumes)
        self.layers = DiskLayers(store.disk_layers)
        self.locks = BranchLocks()

    def all(self) -> list[BranchRecord]:
        """Return the record of every branch, of any owner."""
        folder = self.store.branches
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        records = (self._read(name) for name in names)
        return [record for record in records if record is not None]

    def find(self, branch_uuid: str) -> BranchRecord:
        """Return the record of one branch.

        :raises NotFound: if it does not exist.
        """
        record = self._read(branch_uuid)
        if record is None:
            raise NotFound(f"branch {branch_uuid} does not exist.", remedy="branch the host again")
        return record

    def folder(self, record: BranchRecord) -> Path:
        """Return the directory of a branch."""
        return self.store.branches / record.uuid

    def create(
        self,
        host: HostRecord,
        template: TemplateRecord,
        current_time: float,
        deadline: Deadline,
        volumes: Sequence[VolumeRecord] = (),
    ) -> BranchRecord:
        """Branch a running host. The host continues, whatever happens.

        :param template: the template of the host.
        :param volumes: the volumes that are attached to the host.
        :raises StockyardError: if the host cannot be branched, with the reason. Nothing is left.
        """
        domain = self.domains.find(host)
        definition = branch_source.definition_of(domain, host.title)
        record = branch_source.draft(
            domain, definition, host, branch_of(host, template, current_time, "creating", volumes)
        )
        record = self.branched_volumes.on_record(record, definition, host.title)
        self._shorten_chains(domain, definition, record, host.title, deadline)
        definition = branch_source.definition_of(domain, host.title)
        self._remove_unused_disks(host.uuid, f"disk*{disk_layers.SUFFIX}")
        if record.volumes:
            self.branched_volumes.remove_former_names(record, self._definitions(host.uuid))
        branch_source.check_space(record, self.store, host.title)
        folder = self.folder(record)
        make(folder, record.title)
        write_atomic(folder / NOTE, json.dumps({"uri": self.uri, "owner": record.owner}))
        # The lock is held until the release. If it is free, the controller died.
        lock = self.locks.hold(folder)
        try:
            return self._create(record, domain, definition, host, lock, deadline)
        except BaseException:
            self._delete(record)
            self.locks.drop(folder)
            if record.volumes:
                with self.registry():
                    self.volumes.prune()
            raise

    def copy_volume(self, record: VolumeRecord, branch: BranchRecord, deadline: Deadline) -> None:
        """Record a volume as a copy of a volume of a branch."""
        self.branched_volumes.copy(record, branch, deadline)

    def fork(
        self,
        host: HostRecord,
        branch: BranchRecord,
        deadline: Deadline,
        copies: Sequence[VolumeRecord] = (),
    ) -> None:
        """Create the machine of a reserved host from a branch and start it, its network link
        down.

        :param copies: the copies of volumes that are plugged in.
        :raises OperationRefused: if the branch is incomplete.
        :raises ImageError: if it is damaged.
        """
        if branch.phase == "creating":
            raise OperationRefused(
                f"the {branch.title} is not complete.",
                name=branch.title,
                remedy="branch the host again",
            )
        source = self.folder(branch)
        frozen.verify_branch(source, branch, _parts(branch))
        folder = self.store.hosts / host.uuid
        make(folder, host.title)
        ownership.write(folder / NOTE, self.uri, host)
        disks.overlay(folder / DISK, self.layers.path(branch.uuid), host.title, deadline)
        image = self.images.path(branch.image)
        definition = designer.child_domain(
            host,
            branch,
            self._machine(branch),
            image,
            folder,
            source,
            self.branched_volumes.disks_of_child(folder, branch, copies, host.title, deadline),
            designer.private_mapping(self.domains.map_read_only()),
        )
        fork.resume(self._start(definition, host.title), source / STATE, host.title, deadline)

    def check_template(self, host: HostRecord) -> None:
        """Refuse a running host if the storage has no space for a template that is created from it.

        :raises OutOfSpace: with the MiB that are needed and those that are free.
        """
        definition = branch_source.definition_of(self.domains.find(host), host.title)
        disk = disk_layers.top(definition)
        branch_source.check_template_space(
            host.size.memory_mib, (disk, *disk_layers.chain(disk)), self.store, host.title
        )

    def fork_template(
        self, record: TemplateRecord, branch: BranchRecord, deadline: Deadline
    ) -> None:
        """Create the machine of a template from a branch and start it, without a network.

        Its RAM file is a copy of the branch's. Its disk lies over the branch's until it is frozen.

        :raises Unsupported: if the host was resized: hosts of a template start with its machine.
        """
        if branch.modules or branch.added_vcpus:
            raise Unsupported(
                "a host that was resized cannot become a template.",
                name=record.title,
                cause=f"{branch.title} has {branch.added_vcpus} more processors, and "
                f"{len(branch.modules)} memory modules",
                remedy="restart the host, and run again",
            )
        source, folder = self.folder(branch), self.store.templates / record.uuid
        frozen.verify_branch(source, branch, _parts(branch))
        parent_machine, image = self._machine(branch), self.images.path(record.image)
        with self.registry():
            make(folder, record.title)
            ownership.write(folder / NOTE, self.uri, record)
            definition = designer.template(record, parent_machine, image, folder)
            self.domains.define(serialize(definition.xml()), record.title)
        disks.copy(source / RAM, folder / RAM, record.title, deadline)
        # In parts as small as the file system's blocks: each block that is freed leaves the disk.
        layer = self.layers.path(branch.uuid)
        disks.overlay(folder / DISK, layer, record.title, deadline, cluster_kib=BLOCK_KIB)
        volume_disks = self.branched_volumes.disks_of_child(
            folder, branch, (), record.title, deadline
        )
        definition = designer.host_template(record, parent_machine, image, folder, volume_disks)
        fork.resume(self._start(definition, record.title), source / STATE, record.title, deadline)

    def flatten(self, record: TemplateRecord, deadline: Deadline) -> None:
        """Make the disk of an ended template self-contained if it lies over the disk of a branch,
        so that nothing of the host remains that the guest deleted.
        """
        disk = self.store.templates / record.uuid / DISK
        if self.layers.depth(disk):
            disks.flatten(disk, record.title, deadline)

    def drop_volumes(
        self, child: HostRecord | TemplateRecord, branch: BranchRecord, deadline: Deadline
    ) -> None:
        """Unplug the disks of a child that are no volumes, and delete them."""
        is_host = isinstance(child, HostRecord)
        folder = (self.store.hosts if is_host else self.store.templates) / child.uuid
        domain = self.domains.find(child)
        self.branched_volumes.drop(domain, folder, branch, child.title, deadline)

    def layers_in_use(self) -> set[str]:
        """Return the layers of volumes from which hosts can still be forked, and those under the
        disks that stand in for volumes.

        :raises InvalidInput: if a record cannot be read.
        :raises HypervisorError: if a disk cannot be read.
        """
        return self.branched_volumes.layers_in_use(self.all())

    def release(self, record: BranchRecord) -> None:
        """Delete a branch, or mark it for deletion together with the last host that was forked
        from it.
        """
        self._end_twin(record)
        self.locks.drop(self.folder(record))
        with self.registry():
            current_record = self._read(record.uuid)
            if current_record is not None:
                self._write(replace(current_record, phase="released"))
            self._prune(record.owner)

    def prune(self, owner: str) -> None:
        """Delete branches without hosts that are released or whose controller died, and layers that
        no disk lies over. End the twins of dead controllers.
        """
        if self.store.branches.is_dir():
            with self.registry():
                self._prune(owner)

    def sweep(self, owner: str, older_than: float, *, check: bool) -> SweepResult:
        """Find the directories of one owner that no branch refers to, and delete them unless only a
        check is requested. Call it under the registry's lock.

        Branches whose controller died are deleted at any age: the lock of a branch proves that.
        """
        removed: list[OrphanedFile] = []
        skipped: list[OrphanedFile] = []
        if not self.store.branches.is_dir():
            return SweepResult((), ())
        if not check:
            self._prune(owner)
        for path in sorted(self.store.branches.iterdir()):
            if self._read(path.name) is not None:
                continue
            reason = self._why_not(path, owner) or ownership.too_young(path, older_than)
            removable, retained = ownership.sorted_out(path, reason)
            removed, skipped = removed + removable, skipped + retained
        for orphan in () if check else removed:
            shutil.rmtree(orphan.path)
        return SweepResult(tuple(removed), tuple(skipped))

    def _why_not(self, path: Path, owner: str) -> str:
        """Return the reason to retain a directory without a record; empty if it can be deleted."""
        if path.is_symlink() or not path.is_dir() or not ownership.is_name(path.name):
            return "it is no directory of stockyard"
        if not any(path.iterdir()):
            return ""
        try:
            note = untrusted.mapping(untrusted.parse((path / NOTE).read_bytes()), "the note")
        except (OSError, untrusted.MalformedData) as error:
            return f"its owner cannot be read ({error})"
        if (note.get("uri"), note.get("owner")) != (self.uri, owner):
            return f"it belongs to owner {note.get('owner')!a} of {note.get('uri')!a}"
        with self.locks.tried(path) as is_free:
            return "" if is_free else "a controller works on it"

    def refuse_if_used(self, template: TemplateRecord) -> None:
        """Refuse to delete a template whose disk is under branches.

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

    def _create(
        self,
        record: BranchRecord,
        domain: Any,
        definition: Element,
        host: HostRecord,
        lock: int,
        deadline: Deadline,
    ) -> BranchRecord:
        title, folder = record.title, self.folder(record)
        process = SwitchOverProcess(self.uris(), domain, record.uuid, host.title, lock)
        try:
            image = self.images.path(record.image)
            disk = disk_layers.top(definition)
            parent_machine = machine.frozen(serialize(definition))
            self._define(record, parent_machine)
            disks.empty(folder / designer.SCRATCH, disk, title, deadline)
            self.branched_volumes.create_scratch(record, definition, folder, deadline)
            twin = self._start(designer.twin_domain(record, parent_machine, image, folder), title)
            layer = self.layers.add(record.uuid, disk)
            overlays = {
                disk_layers.TARGET: disk_layers.overlay(disk, layer, record.uuid, title, deadline)
            }
            overlays |= self.branched_volumes.overlays(record, definition, deadline)
            stop_first = branch_source.misses_writes(Monitor(domain, host.title))
            snapshot = disk_layers.snapshot(overlays)
            blocks = _blocks(record, folder)
            result = process.run(snapshot, blocks, deadline, stop_first=stop_first)
        finally:
            process.close()
        self._freeze(record, twin, layer, deadline)
        record = replace(
            record,
            phase="frozen",
            pause_ms=result.pause_ms,
            checksums=frozen.seal_branch(folder, _parts(record), self.domains.map_read_only()),
        )
        with self.registry():
            self._define(record, parent_machine)
        return record

    def _shorten_chains(
        self,
        domain: Any,
        definition: Element,
        record: BranchRecord,
        title: str,
        deadline: Deadline,
    ) -> None:
        """Read the layers under a running host's disks into the disks themselves, if there are
        many. The layers stay unchanged.

        The disk of the template stays under the host's own disk. A volume becomes self-contained.
        """
        disk = disk_layers.top(definition)
        if self.layers.depth(disk) >= LONGEST_CHAIN:
            base = next(
                path for path in disk_layers.chain(disk) if path.parent != self.layers.folder
            )
            self._shorten(domain, disk_layers.TARGET, str(base), title, deadline)
        for target, path in self.branched_volumes.files(record, definition):
            if len(list(disk_layers.chain(path))) >= LONGEST_CHAIN:
                self._shorten(domain, target, None, title, deadline)

    def _shorten(
        self, domain: Any, target: str, base: str | None, title: str, deadline: Deadline
    ) -> None:
        """Read the layers over a base into a running host's disk.

        :param base: the layer that stays under the disk; ``None`` if none stays.
        """
        with translated("shorten the chain of the disk", title):
            domain.blockRebase(target, base, 0, 0)
            while domain.blockJobInfo(target, 0):
                deadline.check("shortening the chain of the disk", name=title)
                deadline.pause(POLL)

    def _freeze(self, record: BranchRecord, twin: Any, layer: Path, deadline: Deadline) -> None:
        """Write the device state of a twin, without the connection of its network card."""
        folder = self.folder(record)
        monitor = Monitor(twin, record.title)
        # The parent has sent everything. The twin may still read it from the connection: its link
        # would come up with the state of the network card.
        monitor.migrated(deadline)
        # The children come up with their links down, and with another kind of network if needed.
        monitor.set_link(network.NIC, False)
        monitor.command("netdev_del", id=network.NETDEV)
        fork.save_state(twin, folder / STATE, record.title, deadline)
        (folder / designer.SCRATCH).unlink(missing_ok=True)
        link(layer, folder / DISK)
        self.branched_volumes.seal(record, folder)

    def _end_twin(self, record: BranchRecord) -> Any | None:
        """End the twin of a branch if it runs; return the domain of the branch, if it exists."""
        try:
            with translated("look up the domain", record.title):
                domain = self.domains.connection.lookupByUUIDString(record.uuid)
        except NotFound:
            return None
        power.off(domain, record.title)
        return domain

    def _delete(self, record: BranchRecord) -> None:
        """Delete a branch. Its layer stays as long as disks lie over it."""
        domain = self._end_twin(record)
        folder = self.folder(record)
        processes.refuse_if_running(record.uuid, folder / designer.SCRATCH, record.title)
        # Another controller may be about to switch the parent to the overlay of another branch.
        self._remove_unused_disks(record.parent, f"disk-{record.uuid}{disk_layers.SUFFIX}")
        if record.volumes:
            definitions = self._definitions(record.parent)
            self.branched_volumes.remove_unused_overlays(record, definitions)
        if folder.exists():
            shutil.rmtree(folder)
        if domain is not None:
            self.domains.undefine(domain, record.title)

    def _remove_unused_disks(self, host_uuid: str, pattern: str) -> None:
        """Delete the disks in a host's directory that the host does not use: overlays that it was
        never switched to, and second names of layers.

        :param pattern: the names of the files that no other controller works on.
        """
        definitions = self._definitions(host_uuid)
        used = {path for definition in definitions for path in disk_layers.sources(definition)}
        if not used:
            return
        for path in (self.store.hosts / host_uuid).glob(pattern):
            if path not in used:
                path.unlink()

    def _definitions(self, machine_uuid: str) -> list[Element]:
        """Return the running and the stored definition of a machine, if it exists."""
        import libvirt

        try:
            with translated("read the domain", machine_uuid):
                domain = self.domains.connection.lookupByUUIDString(machine_uuid)
                texts = [domain.XMLDesc(0), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)]
        except NotFound:
            return []
        return [parse(text) for text in texts]

    def _prune(self, owner: str) -> None:
        machines, unreadable = self.domains.read_all()
        if unreadable:
            # An unreadable domain can be a host that was forked from any branch.
            return
        try:
            records = self.all()
        except InvalidInput:
            return
        hosts = [record for record, _state in machines if isinstance(record, HostRecord)]
        used = {host.branch for host in hosts}
        for record in records:
            if record.owner != owner:
                continue
            with self.locks.tried(self.folder(record)) as is_free:
                if is_free and record.uuid in used:
                    self._end_twin(record)
                elif is_free:
                    self._delete(record)
        for path in self._unused_layers():
            path.unlink()
        self.volumes.prune()

    def _unused_layers(self) -> list[Path]:
        names = [path.name for path in self.store.branches.iterdir()]
        try:
            own_disks = self.store.machine_files((self.store.hosts,), f"*{disk_layers.SUFFIX}")
            return self.layers.unused(own_disks, names)
        except HypervisorError:
            # A disk that is being created cannot be read yet.
            return []

    def _read(self, branch_uuid: str) -> BranchRecord | None:
        """Return the record of a branch; ``None`` if no domain has it."""
        if not ownership.is_name(branch_uuid):
            return None
        try:
            with translated("read the branch", branch_uuid):
                domain = self.domains.connection.lookupByUUIDString(branch_uuid)
        except NotFound:
            return None
        text = self.domains.metadata(domain, BRANCH_NS)
        if text is None:
            return None
        record = decode_branch(text)
        return record if record.uuid == branch_uuid else None

    def _write(self, record: BranchRecord) -> None:
        template_machine = self._machine(record)
        self._define(replace(record, version=record.version + 1), template_machine)

    def _machine(self, record: BranchRecord) -> machine.Machine:
        import libvirt

        with translated("read the branch", record.title):
            domain = self.domains.connection.lookupByUUIDString(record.uuid)
            return machine.frozen(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))

    def _define(self, record: BranchRecord, parent_machine: machine.Machine) -> None:
        image, folder = self.images.path(record.image), self.folder(record)
        definition = designer.branch_domain(record, parent_machine, image, folder)
        self.domains.define(serialize(definition.xml()), record.title)

    def _start(self, definition: Domain, title: str) -> Any:
        import libvirt

        with translated("create the machine", title):
            return self.domains.connection.createXML(
                serialize(definition.xml()), libvirt.VIR_DOMAIN_START_PAUSED
            )


def _parts(record: BranchRecord) -> tuple[str, ...]:
    """Return the names of the files of a branch."""
    return (STATE, RAM, *(f"{RAM}-{module.number}" for module in record.modules), DISK)


def _blocks(record: BranchRecord, folder: Path) -> list[tuple[int, str]]:
    """Return the guest's address and the file of each block of memory."""
    modules = [
        (module.address, str(folder / f"{RAM}-{module.number}")) for module in record.modules
    ]
    return [(0, str(folder / RAM)), *modules]
