# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The libvirt provider: the port, composed from its parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import Conflict, StockyardError, Unsupported
from ...hypervisor.branch_store import BranchStore
from ...hypervisor.capabilities import Capabilities
from ...hypervisor.facts import MachineFacts
from ...hypervisor.guest_clock import GuestClock
from ...hypervisor.provider import Channel, Progress
from ...hypervisor.template_files import TemplateFiles
from ...model import publication
from ...model.host import Host, HostRecord, HostSpec
from ...model.image import BuildOptions, ImageSpec
from ...model.network import USER_NETWORK, GuestNetwork, PublishSpec
from ...model.observation import Observation, R, Record, SweepResult, Template
from ...model.recipe import Recipe
from ...model.size import Size
from ...model.template import Hardware, TemplateRecord
from ...paths import expand_user
from ..common import difference
from ..common.queue_files import FileQueues
from . import (
    boot,
    consistency,
    container_ports,
    definition,
    designer,
    disk_layers,
    disks,
    fork,
    frozen,
    grow,
    logs,
    machine,
    network,
    orphaned_files,
    pools,
    power,
    processes,
    suspend,
    template_ssh,
    uplink,
)
from .admission import Admission
from .branches import Branches
from .channel import SocketChannel, agent_socket
from .domains import Domains
from .facts import Facts
from .faults import translated
from .guest_clock import QemuGuestClock
from .images import Images
from .monitor import Monitor
from .platforms import Platforms
from .session import Session
from .session import record as record_session
from .store import Store, make
from .template_files import LibvirtTemplateFiles
from .turns import MOST_FOR_EACH_PROCESSOR, QueueTurns
from .volumes import LibvirtVolumes
from .xml.domain import Domain
from .xml.element import parse, serialize

STOP_GRACE = 60.0
REGISTRY_WAIT = 60.0


class LibvirtProvider:
    """One libvirt connection and its storage directory.

    :param session: the session of a user that the connection leads to; none for ``qemu:///system``.
    """

    def __init__(
        self, uri: str, connection: Any, store: Store, session: Session | None = None
    ) -> None:
        processors = os.cpu_count() or 1
        self.uri = uri
        self.site = f"{uri} {store.root.resolve()}"
        self.capabilities = Capabilities(
            modes=("instant", "linked", "full"),
            parallel=processors * MOST_FOR_EACH_PROCESSOR,
            ram_file=True,
            resizes=True,
            volumes=True,
            guest_agent=connection.getURI(),
            suspends=True,
            derives=True,
            branches_volumes=True,
            freezes_hosts=True,
            container_ports=session is not None,
        )
        self.connection = connection
        self.session = session
        self.domains = Domains(connection)
        self.guest_clock: GuestClock | None = QemuGuestClock(self.domains)
        self.networks = network.Networks(connection, uri.endswith("/system"))
        self.store = store
        self.images = Images(store)
        self.admission = Admission(self.networks, self.domains, store, self.images)
        self.pools = pools.book(store, self.domains, uri)
        self.queues = FileQueues(store.lock_folder)
        self.turns = QueueTurns(self.queues, processors)
        self.volumes = LibvirtVolumes(store, self.domains, uri, self._registry, self._layers_in_use)
        self._branches = Branches(
            uri,
            store,
            self.domains,
            self.images,
            self._uris,
            self._registry,
            self.volumes,
        )
        self._platforms = Platforms(connection)
        self._template_files = LibvirtTemplateFiles(
            uri,
            store,
            self.domains,
            self.images,
            self._platforms,
            self._registry,
            self._record_session,
        )
        self._facts = Facts(store, self.images, self.domains)

    @property
    def branches(self) -> BranchStore:
        return self._branches

    @property
    def template_files(self) -> TemplateFiles:
        return self._template_files

    def close(self) -> None:
        self.connection.close()

    def preflight(self) -> list[str]:
        return []

    def exclusive(self, name: str, deadline: Deadline) -> AbstractContextManager[None]:
        with self._registry():
            self._record_session()
        return self.store.lock(name, deadline)

    def capacity(self) -> Size:
        with translated("read the size of the hypervisor"):
            # The model of the processor, the memory in MiB, the number of processors, and so on.
            facts = self.connection.getInfo()
        return Size(int(facts[2]), int(facts[1]))

    def observe(self, owner: str) -> Observation:
        volumes = self.volumes.observe(owner)
        pool_records, unreadable_pools = self.pools.read()
        machines, unreadable = self.domains.read_all()
        self._facts.forget()
        consistency.check(self.store, self.domains, machines, owner)
        own_machines = [(record, state) for record, state in machines if record.owner == owner]
        return Observation(
            templates=tuple(
                Template(
                    machine_record,
                    self._problem(machine_record),
                    self._platforms.drift(machine_record),
                )
                for machine_record, _state in own_machines
                if isinstance(machine_record, TemplateRecord)
            ),
            hosts=tuple(
                Host(machine_record, state)
                for machine_record, state in own_machines
                if isinstance(machine_record, HostRecord)
            ),
            unreadable=(*unreadable, *unreadable_pools),
            addresses=frozenset(
                machine_record.address
                for machine_record, _state in machines
                if isinstance(machine_record, HostRecord)
            ),
            names=frozenset(self.domains.names()),
            pools=tuple(pool for pool in pool_records if pool.owner == owner),
            volumes=volumes,
        )

    def ensure_image(
        self, recipe: Recipe, build: BuildOptions, progress: Progress, deadline: Deadline
    ) -> str:
        if recipe.source:
            raise Unsupported(
                "this hypervisor builds images and does not clone machines.",
                name=recipe.source,
                remedy="omit source from the template",
            )
        self.store.prepare()
        return self.images.ensure(recipe, build, progress, deadline)

    def resolve(self, recipe: Recipe, build: BuildOptions, deadline: Deadline) -> dict[str, str]:
        self.store.prepare()
        return self.images.resolve(recipe, build, deadline)[1]

    def versions(self, image: str) -> dict[str, str]:
        return self.images.versions(image)

    def check_template(self, hardware: Hardware, name: str) -> None:
        self._platforms.check_model(hardware, machine.choose(hardware, name), name)

    def create_template(self, record: TemplateRecord, deadline: Deadline) -> None:
        template_machine = machine.choose(record.hardware, record.title)
        image = self.images.path(record.image)
        folder = self._folder(record)
        with self._registry():
            self._record_session()
            make(folder, record.title)
            orphaned_files.note(folder, self.uri, record)
            disks.overlay(folder / "disk.qcow2", image.disk, record.title, deadline)
            self._define(designer.template(record, template_machine, image, folder), record.title)

    def derive_template(
        self, record: TemplateRecord, parent: TemplateRecord, deadline: Deadline
    ) -> None:
        source, folder = self._folder(parent), self._folder(record)
        frozen.verify(source, parent)
        self._platforms.require(parent)
        template_machine = machine.frozen(self.domains.find(parent).XMLDesc(0))
        image = self.images.path(record.image)
        with self._registry():
            self._record_session()
            make(folder, record.title)
            orphaned_files.note(folder, self.uri, record)
            self._define(designer.template(record, template_machine, image, folder), record.title)
        # A copy of the disk lies over the image, as the parent's disk does: chains stay short, and
        # no file of the parent is needed afterwards.
        for part in ("ram", "disk.qcow2"):
            disks.copy(source / part, folder / part, record.title, deadline)
        definition = designer.derived_template(record, template_machine, image, folder)
        fork.resume(
            self._create_paused(definition, record.title),
            source / "state",
            record.title,
            deadline,
        )

    def fetch_difference(
        self,
        image: ImageSpec,
        build: BuildOptions,
        installed: str,
        folder: Path,
        deadline: Deadline,
    ) -> dict[str, str]:
        return difference.fetch(image, build, installed, folder, deadline)

    def template_network(self, record: TemplateRecord) -> GuestNetwork:
        return USER_NETWORK

    def reach(
        self, record: TemplateRecord, deadline: Deadline
    ) -> AbstractContextManager[tuple[str, int]]:
        return template_ssh.forward_ssh(
            Monitor(self.domains.find(record), record.title), network.nic(record), deadline
        )

    def freeze(self, record: TemplateRecord, deadline: Deadline) -> TemplateRecord:
        folder = self._folder(record)
        domain = self.domains.find(record)
        template_machine = machine.frozen(domain.XMLDesc(0))
        platform = self._platforms.of(template_machine)
        fork.save_state(domain, folder / "state", record.title, deadline)
        # The suspended machine changes no file. libvirt may need seconds to end it.
        with ThreadPoolExecutor(1) as pool:
            ending = pool.submit(power.off, domain, record.title)
            self._branches.flatten(record, deadline)
            checksums = frozen.seal(folder, record.title, self.domains.map_read_only())
            ending.result()
        # The definition is replaced first: a template in phase frozen must never be started in such
        # a way that it writes to its files.
        self._define(
            designer.frozen_domain(
                record, template_machine, self.images.path(record.image), folder
            ),
            record.title,
        )
        return self.claim(record, phase="frozen", checksums=checksums, platform=platform)

    def check_host(
        self, spec: HostSpec, template: TemplateRecord | None, deleted: list[HostRecord], count: int
    ) -> None:
        if template:
            self._platforms.require(template, "linked")
        self.admission.check(spec, template, deleted, count)

    def free_ports(self, publish: PublishSpec, count: int) -> tuple[int, ...]:
        machines, _unreadable = self.domains.read_all()
        used_bindings = publication.bindings_of(record for record, _state in machines)
        return network.free_ports(publish, count, used_bindings)

    def host_address(self, spec: HostSpec, uuid: str) -> str:
        return self.networks.address(spec, uuid, self.domains.addresses() if spec.network else ())

    def guest_network(self, record: HostRecord) -> GuestNetwork:
        return self.networks.guest(record)

    def create_host(self, record: HostRecord, template: TemplateRecord) -> HostRecord:
        self.networks.check(record.spec)
        image, folder = self.images.path(template.image), self._folder(record)
        with self._registry():
            self._record_session()
            source = self.domains.find(template)
            machines, _unreadable = self.domains.read_all()
            if record.domain in self.domains.names():
                raise Conflict(
                    "a domain of this name exists.", name=record.title, cause=record.domain
                )
            record = self._with_ports(
                record, (machine_record for machine_record, _state in machines)
            )
            network.check_free(record, (machine_record for machine_record, _state in machines))
            self.pools.check_quota(
                record,
                (
                    machine_record
                    for machine_record, _state in machines
                    if isinstance(machine_record, HostRecord)
                ),
            )
            definition = designer.boot_domain(
                record, template.hardware, machine.frozen(source.XMLDesc(0)), image, folder
            )
            self._define(definition, record.title)
        return record

    def _with_ports(self, record: HostRecord, records: Iterable[Record]) -> HostRecord:
        publish = record.spec.publish
        if publish is None:
            return record
        network.check_address(publish.address)
        return publication.with_ports(
            record,
            publication.bindings_of(records),
            lambda port: network.is_free(publish.address, port),
        )

    def fork(
        self, host: HostRecord, template: TemplateRecord, mode: str, deadline: Deadline
    ) -> None:
        folder, source = self._folder(host), self._folder(template)
        frozen.verify(source, template)
        self._platforms.require(template, mode)
        make(folder, host.title)
        orphaned_files.note(folder, self.uri, host)
        disks.make(folder / "disk.qcow2", source / "disk.qcow2", mode, host.title, deadline)
        if mode != "instant":
            self.start(host, deadline)
            return
        template_machine = machine.frozen(self.domains.find(template).XMLDesc(0))
        image = self.images.path(template.image)
        definition = designer.restore_domain(
            host,
            template.hardware,
            template_machine,
            image,
            folder,
            source / "ram",
            designer.private_mapping(self.domains.map_read_only()),
        )
        fork.resume(
            self._create_paused(definition, host.title), source / "state", host.title, deadline
        )

    def check_start(self, record: HostRecord) -> None:
        # libvirt may still save the memory of the machine.
        if not self.domains.is_active(record.uuid):
            boot.check(record, self._disk(record, self.domains.find(record)))

    def start(self, record: Record, deadline: Deadline) -> str:
        domain = self.domains.find(record)
        return boot.start(domain, record, self._disk(record, domain), deadline)

    def stop(self, record: Record, deadline: Deadline) -> None:
        domain = self.domains.find(record)
        boot.stop(domain, record, self._disk(record, domain), deadline.within(STOP_GRACE))

    def check_suspend(self, records: Sequence[HostRecord]) -> None:
        suspend.check(self.domains, records, suspend.saves_folder(self.session))

    def suspend(self, record: HostRecord, deadline: Deadline) -> None:
        suspend.suspend(self.domains.find(record), record, deadline)

    def resize(self, record: HostRecord, size: Size, deadline: Deadline) -> None:
        grow.resize(self.domains.find(record), record, size, deadline)

    def publish(self, record: HostRecord, ports: Sequence[int], bind: str) -> HostRecord:
        spec = replace(record.spec, ports=tuple(sorted(ports)), bind=bind if ports else "")
        before, after = record.published, replace(record, spec=spec).published
        with self._registry():
            machines, _unreadable = self.domains.read_all()
            other_records = (entry for entry, _state in machines if entry.uuid != record.uuid)
            network.check_published(record.title, after - before, other_records)
            network.probe(record.title, after - before)
            domain = self.domains.find(record)
            changed = self.domains.replace_record(record, spec=spec)
            try:
                if self.domains.is_active(record.uuid):
                    monitor = Monitor(domain, record.title)
                    network.change_forwards(monitor, before, after)
                self.domains.define(definition.with_forwards(domain, changed), record.title)
            except StockyardError:
                self.domains.replace_record(changed, spec=record.spec)
                raise
        return changed

    def set_link(self, record: Record, up: bool) -> None:
        processes.raise_descriptors(record.uuid)
        Monitor(self.domains.find(record), record.title).set_link(network.nic(record), up)

    def uplink(
        self, record: HostRecord, deadline: Deadline
    ) -> AbstractContextManager[Callable[[], bool]]:
        if not network.has_uplink(record):
            return nullcontext(lambda: False)
        monitor = Monitor(self.domains.find(record), record.title)
        return uplink.opening(monitor, record, self._folder(record), deadline)

    def follow_ports(self, record: HostRecord, line: Sequence[str], deadline: Deadline) -> bool:
        folder = self._folder(record)
        return container_ports.follow(record, folder, self._uris(), line, deadline)

    def channel(self, record: Record, deadline: Deadline) -> Channel:
        return SocketChannel(
            agent_socket(self.domains.find(record), record.title), record.title, deadline
        )

    def claim(self, record: R, **changes: Any) -> R:
        with self._registry():
            self.pools.check_growth(
                record,
                changes,
                lambda: (machine_record for machine_record, _state in self.domains.read_all()[0]),
            )
            return self.domains.replace_record(record, **changes)

    def destroy(self, record: Record) -> None:
        if isinstance(record, TemplateRecord):
            # The lock is held to the end: no host may be reserved on a template that is being
            # deleted.
            with self._registry():
                self.domains.refuse_if_used(record)
                self._branches.refuse_if_used(record)
                self._remove(record)
        else:
            # Several controllers may delete one host at the same time: for its holder, for its
            # fleet, and for the reaper.
            with self.store.lock(f"{record.owner}.machine.{record.uuid}", Deadline(REGISTRY_WAIT)):
                self._remove(record)
            self._branches.prune(record.owner)

    def _remove(self, record: Record) -> None:
        domain = self.domains.find_existing(record)
        if domain is not None:
            power.off(domain, record.title)
        # Files first: a host whose deletion was interrupted still has its record.
        folder = self._folder(record)
        processes.refuse_if_running(record.uuid, self.store.disk_of(record.uuid), record.title)
        uplink.delete_folder(folder)
        if domain is not None:
            self.domains.undefine(domain, record.title)

    def prune_images(
        self,
        older_than: float,
        own: frozenset[str] = frozenset(),
        *,
        check: bool = False,
        ignored: frozenset[str] = frozenset(),
    ) -> list[str]:
        self.store.prepare()
        with self._registry():
            machines, unreadable = self.domains.read_all()
            if unreadable:
                # An unreadable domain may be a template with an unknown image, so no image is
                # deleted.
                return []
            image_digests = {
                record.image
                for record, _state in machines
                if isinstance(record, TemplateRecord) and record.uuid not in ignored
            }
            return self.images.prune(image_digests, older_than, own, check=check)

    def sweep(self, owner: str, older_than: float, *, check: bool = False) -> SweepResult:
        self.store.prepare()
        with self._registry():
            machines, unreadable = self.domains.read_all()
            domains = orphaned_files.Domains(
                tuple(record for record, _state in machines),
                tuple(unreadable),
                tuple(self.domains.definitions()),
            )
            machine_files = orphaned_files.sweep(
                self.store, self.images, domains, self.uri, owner, older_than, check=check
            )
            branch_files = self._branches.sweep(owner, older_than, check=check)
            return SweepResult(
                (*machine_files.removed, *branch_files.removed),
                (*machine_files.skipped, *branch_files.skipped),
            )

    def facts(self, record: Record) -> MachineFacts:
        return self._facts.of(record, self._folder(record))

    def keep_log(self, record: Record) -> str:
        return logs.copy_console(
            self._folder(record) / "console.log", self.store.root / "logs", record.domain
        )

    def _create_paused(self, definition: Domain, name: str) -> Any:
        import libvirt

        with translated("create the fork's machine", name):
            return self.connection.createXML(
                serialize(definition.xml()), libvirt.VIR_DOMAIN_START_PAUSED
            )

    def _define(self, definition: Domain, name: str) -> None:
        self.domains.define(serialize(definition.xml()), name)

    def _folder(self, record: Record) -> Path:
        return (
            self.store.templates if isinstance(record, TemplateRecord) else self.store.hosts
        ) / record.uuid

    def _uris(self) -> list[str]:
        """Return URIs that lead another process to the daemon of this connection."""
        return self.session.uris() if self.session else [self.uri]

    def _disk(self, record: Record, domain: Any) -> Path:
        """Return the disk that a machine writes to."""
        import libvirt

        with translated("read the domain", record.title):
            definition = parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        files = disk_layers.sources(definition)
        return files[0] if files else self._folder(record) / "disk.qcow2"

    def _record_session(self) -> None:
        if self.session:
            record_session(self.store, self.session, self.domains)

    def _layers_in_use(self) -> set[str]:
        return self._branches.layers_in_use()

    def _registry(self) -> AbstractContextManager[None]:
        return self.store.lock("registry", Deadline(REGISTRY_WAIT))

    def _problem(self, record: TemplateRecord) -> str:
        if record.phase != "frozen":
            return ""
        image = self.images.path(record.image)
        missing_files = [
            str(path) for path in (image.disk, image.kernel, image.initrd) if not path.exists()
        ]
        return (
            f"its image's file {missing_files[0]} is missing"
            if missing_files
            else frozen.problem(self._folder(record), record)
        )


def open_provider(uri: str, storage: str | None = None) -> LibvirtProvider:
    """Open a local QEMU hypervisor.

    :param storage: directory for templates and hosts; ``~/.local/share/stockyard`` for a session,
        else ``/var/lib/stockyard``.
    """
    from .connection import checked, default_storage, open_connection, open_session

    store = Store(expand_user(storage) if storage else default_storage(uri))
    if checked(uri).endswith("/session"):
        connection, session = open_session(store)
        return LibvirtProvider(uri, connection, store, session)
    return LibvirtProvider(uri, open_connection(uri), store)
