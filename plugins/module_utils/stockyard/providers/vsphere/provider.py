# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vSphere provider: the port, composed of its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from ...clock import Deadline
from ...errors import (
    Conflict,
    HypervisorError,
    PoolQuotaExceeded,
    StockyardError,
    Unsupported,
)
from ...guest.client import Guest
from ...hypervisor.capabilities import Capabilities
from ...hypervisor.facts import MachineFacts
from ...hypervisor.guest_clock import NoGuestClock
from ...hypervisor.provider import Channel, Progress
from ...hypervisor.template_files import NoTemplateFiles, TemplateFiles
from ...hypervisor.turns import Unlimited
from ...model.host import Host, HostRecord, HostSpec
from ...model.image import BuildOptions, ImageSpec
from ...model.login import NOBODY, Login
from ...model.network import GuestNetwork, PublishSpec
from ...model.observation import Observation, R, Record, SweepResult, Template, UnreadableObject
from ...model.recipe import Recipe
from ...model.size import Size
from ...model.template import Hardware, TemplateRecord
from ..common import difference
from . import (
    branch_records,
    fork,
    grow,
    place,
    pools,
    reservations,
    suspend,
    templates,
    volume_records,
)
from .branches import VsphereBranches
from .guestinfo import GuestinfoChannel
from .hosts import Hosts
from .inventory import machines, properties
from .labels import Labels
from .library import SCHEME, Images, lock_of
from .locks import CLOSING, DistributedLocks, anyone, open_again
from .lookup import Lookup
from .machine_cache import Reading
from .machines import Machines
from .privileges import Guard
from .queues import RegisterQueues
from .records import Machine
from .register import Register, Values
from .session import Session
from .task import Tasks
from .template_ssh import TemplateSsh
from .volumes import VsphereVolumes

# The range that vSphere reserves for addresses that are set by hand.
FIRST_MAC, MACS = "00:50:56:00:00:00", 1 << 22
REMOVAL = 600.0
# If no host answers at its address, the guest's network settings do not matter.
NOWHERE = "255.0.0.0"


class VsphereProvider(NoGuestClock):
    """One session on a vCenter, and the folder of the yard."""

    def __init__(self, uri: str, session: Session, lookup: Lookup) -> None:
        self.uri = uri
        self.place = lookup.place
        self.site = self.place.site
        self.capabilities = Capabilities(
            modes=("instant", "linked", "full"),
            parallel=self.place.parallel,
            endpoints=self.place.endpoints,
            first_mac=FIRST_MAC,
            macs=MACS,
            own_files=False,
            builds=False,
            volumes=True,
            resizes=True,
            shrinks=False,
            sets_clocks=True,
            suspends=True,
            derives=True,
        )
        self.session = session
        self.lookup = lookup
        self.tasks = Tasks(session)
        self.register = Register(session, lookup, self.tasks)
        self.leases = DistributedLocks(session, self.register)
        self.turns = Unlimited()
        self.queues = RegisterQueues(self.leases, self.register)
        self.images = Images(session, lookup, self.tasks)
        self.labels = Labels(session, self.place.attribute)
        self.forks = fork.Forks(session, self.tasks, lookup)
        self.machines = Machines(session, self.tasks, lookup, self.register)
        self.reading = Reading(session, lookup)
        self.hosts = Hosts(self.forks, self.machines, self.register, self.labels, self.reading)
        self.branches = VsphereBranches(self.hosts, self.register, self.reading, self.leases)
        self.template_ssh = TemplateSsh(self.place, self.machines, self.register, self.reading)
        self.guard = Guard(session, lookup, self.labels)
        self.pools = pools.Pools(
            session, self.tasks, lookup, self.register, self.reading.current, self.guard
        )
        self.volumes = VsphereVolumes(
            session, self.tasks, lookup, self.register, self.machines, self.reading, self.guard
        )
        self._seen: dict[str, Machine] = {}

    @property
    def template_files(self) -> TemplateFiles:
        return NoTemplateFiles(
            "a template on vSphere is a running machine, whose memory vCenter does not export"
        )

    def close(self) -> None:
        # Losing these edits is harmless, and no reason to hide an error or to wait for a vCenter
        # that is down.
        with suppress(StockyardError):
            if not self.session.down:
                self.register.flush()
        self.session.close()

    def preflight(self) -> list[str]:
        return self.guard.missing()

    def exclusive(self, name: str, deadline: Deadline) -> AbstractContextManager[None]:
        self.guard.demand()
        return self.leases.held(name, deadline)

    def capacity(self) -> Size:
        """Return the processors and the memory of all hosts of the cluster."""
        cluster = self.lookup.cluster
        summary = properties(self.session, cluster, ("summary",), self.place.cluster).get("summary")
        if summary is None:
            return Size()
        return Size(int(summary.numCpuThreads), int(summary.totalMemory) >> 20)

    def observe(self, owner: str) -> Observation:
        values, all_machines = self._read_all()
        records = reservations.list_records(values, all_machines)
        own_records = [
            (record, machine)
            for record, machine in records
            if not isinstance(record, UnreadableObject) and record.owner == owner
        ]
        return Observation(
            templates=tuple(
                Template(record, templates.problem(record, machine, values, self.place.frozen))
                for record, machine in own_records
                if isinstance(record, TemplateRecord)
            ),
            hosts=tuple(
                Host(record, machine.state if machine else "off")
                for record, machine in own_records
                if isinstance(record, HostRecord)
            ),
            unreadable=(
                *(record for record, _machine in records if isinstance(record, UnreadableObject)),
                *pools.read(values)[1],
                *branch_records.read(values)[1],
            ),
            addresses=frozenset(
                record.address for record, _machine in records if isinstance(record, HostRecord)
            ),
            names=frozenset(
                {machine.name for machine in all_machines}
                | {name for name, _record in reservations.reserved(values)}
            ),
            pools=tuple(pools.read(values, owner)[0]),
            volumes=volume_records.observation(values, owner),
        )

    def ensure_image(
        self, recipe: Recipe, build: BuildOptions, progress: Progress, deadline: Deadline
    ) -> str:
        if recipe.cloud_image:
            raise Unsupported(
                "vSphere does not boot cloud images, because a template is a clone.",
                name=self.uri,
                remedy="import the image into vCenter, install the agent, and declare that "
                "machine as source",
            )
        if not recipe.source:
            raise Unsupported(
                "vSphere does not build images, because a template is a clone.",
                name=self.uri,
                remedy="declare as source a machine or template of vCenter with the agent",
            )
        if not recipe.source.startswith(SCHEME):
            return templates.image(self.session, self.lookup.source(recipe.source), recipe.source)
        self.guard.demand()
        with self.leases.held(lock_of(recipe.source), deadline):
            ref = self.images.ensure(recipe.source, progress, deadline)
        return templates.image(self.session, ref, recipe.source)

    def resolve(self, recipe: Recipe, build: BuildOptions, deadline: Deadline) -> dict[str, str]:
        """Return nothing: the contents of a source are known only to its owner."""
        return {}

    def versions(self, image: str) -> dict[str, str]:
        return {}

    def check_template(self, hardware: Hardware, name: str) -> None:
        if hardware.cpu.model:
            raise Unsupported(
                "cpu: a template on vSphere has the processor of its cluster.",
                name=name,
                cause="the EVC mode of the cluster decides the CPU model",
                remedy="omit cpu, and set the EVC mode of the cluster",
            )

    def create_template(self, record: TemplateRecord, deadline: Deadline) -> None:
        self.guard.demand()
        ref, _change = fork.origin(self.lookup, record.image, record.title)
        source = self.forks.source(ref, record.title)
        clone_ref = self.forks.cold(
            record, source, "linked" if source.snapshot is not None else "full", deadline
        )
        self.labels.write(record, clone_ref)
        self.register.change(reservations.stamp)

    def derive_template(
        self, record: TemplateRecord, parent: TemplateRecord, deadline: Deadline
    ) -> None:
        self.guard.demand()
        self.template_ssh.check(record.title)
        self.hosts.derive(record, parent, deadline)
        self.register.change(reservations.stamp)

    def fetch_difference(
        self,
        image: ImageSpec,
        build: BuildOptions,
        installed: str,
        folder: Path,
        deadline: Deadline,
    ) -> dict[str, str]:
        """Write the files for a derived template to a directory; nothing on a simulator, where the
        template cannot be reached.
        """
        if not self.place.endpoints:
            return {}
        return difference.fetch(image, build, installed, folder, deadline)

    def template_network(self, record: TemplateRecord) -> GuestNetwork:
        return self.template_ssh.network(record)

    def reach(
        self, record: TemplateRecord, deadline: Deadline
    ) -> AbstractContextManager[tuple[str, int]]:
        return self.template_ssh.reach(record, deadline)

    def freeze(self, record: TemplateRecord, deadline: Deadline) -> TemplateRecord:
        machine = self.machines.get(record)
        frozen = "no"
        if self.place.frozen:
            guest = Guest(self.channel(record, deadline), record.title, deadline)
            templates.freeze(self.session, guest, machine, record.title, deadline)
            frozen = "yes"
        hardware, memory = grow.room(self.session, machine.ref, record)
        changes = {"checksums": {"frozen": frozen}, "hardware": hardware, "max_memory_mib": memory}
        return self.claim(record, phase="frozen", **changes)

    def check_host(
        self, spec: HostSpec, template: TemplateRecord | None, deleted: list[HostRecord], count: int
    ) -> None:
        templates.check_host(spec, self.place, template)
        if address_range := self.place.addresses:
            freed_addresses = {record.address for record in deleted}
            self.reading.twice(
                Conflict,
                lambda: address_range.check_room(count, {*self._addresses()} - freed_addresses),
            )

    def host_address(self, spec: HostSpec, uuid: str) -> str:
        if (address_range := self.place.addresses) is None:
            return ""
        return str(
            self.reading.twice(
                Conflict, lambda: address_range.free(UUID(uuid).int, self._addresses())
            )
        )

    def guest_network(self, record: HostRecord) -> GuestNetwork:
        address_range = self.place.addresses
        mask, gateway = (
            (address_range.netmask, address_range.gateway) if address_range else (NOWHERE, "")
        )
        return GuestNetwork(
            record.address,
            mask,
            gateway if record.spec.egress == "open" else "",
            self.place.interface,
        )

    def free_ports(self, publish: PublishSpec, count: int) -> tuple[int, ...]:
        return ()

    def create_host(self, record: HostRecord, template: TemplateRecord) -> HostRecord:
        edit = self.reading.stamped(
            lambda values: pools.reserve(values, self.reading.known, record, template), refresh=True
        )
        self.reading.twice(PoolQuotaExceeded, lambda: self.register.change(edit))
        return record

    def fork(
        self, host: HostRecord, template: TemplateRecord, mode: str, deadline: Deadline
    ) -> None:
        self.hosts.make(host, template, mode, deadline)

    def check_start(self, record: HostRecord) -> None:
        return

    def start(self, record: Record, deadline: Deadline) -> str:
        machine = self.machines.get(record)
        if machine.power == "suspended":
            # vCenter changes no hardware of a suspended machine. The card is disconnected, unless
            # the machine was suspended in vCenter.
            fork.power_on(self.tasks, record, machine.ref, deadline)
            self.machines.connect(machine, record, False, deadline)
        elif machine.power != "poweredOn":
            self.machines.connect(machine, record, False, deadline)
            fork.power_on(self.tasks, record, machine.ref, deadline)
        return ""

    def stop(self, record: Record, deadline: Deadline) -> None:
        self.machines.stop(record, deadline)

    def check_suspend(self, records: Sequence[HostRecord]) -> None:
        self.guard.demand("suspension")
        suspend.check(self.lookup, self.machines, records)

    def suspend(self, record: HostRecord, deadline: Deadline) -> None:
        suspend.suspend(self.machines, record, deadline)

    def resize(self, record: HostRecord, size: Size, deadline: Deadline) -> None:
        grow.resize(self.session, self.tasks, self.machines.ref(record), record, size, deadline)

    def publish(self, record: HostRecord, ports: Sequence[int], bind: str) -> HostRecord:
        raise Unsupported(
            "a host on vSphere has its own address, so no ports are published for it.",
            name=record.title,
        )

    def set_link(self, record: Record, up: bool) -> None:
        machine = self.machines.lately(record) or self.machines.get(record)
        if machine.power != "poweredOn":
            raise HypervisorError("the machine of the host is not running.", name=record.title)
        self.machines.connect(machine, record, up, Deadline(REMOVAL))

    def uplink(
        self, record: HostRecord, deadline: Deadline
    ) -> AbstractContextManager[Callable[[], bool]]:
        return nullcontext(lambda: False)

    def follow_ports(self, record: HostRecord, line: Sequence[str], deadline: Deadline) -> bool:
        return False

    def channel(self, record: Record, deadline: Deadline) -> Channel:
        ref = self.machines.ref(record)
        return GuestinfoChannel(
            self.session, ref, record.title, lambda machine: self.machines.saw(record, machine)
        )

    def claim(self, record: R, **changes: Any) -> R:
        return self.machines.claim(record, **changes)

    def destroy(self, record: Record) -> None:
        if isinstance(record, TemplateRecord):
            if self.machines.find_existing(record) is None:
                return
            self.branches.prune(record.owner)
            self.register.change(lambda values: self._leave(values, record))
            self._remove(record)
            self.register.change(lambda values: reservations.delete_template_mark(values, record))
        else:
            self._remove(record)
            if reservations.HOST + record.domain in self.register.read().values:
                self.register.change(
                    self.reading.stamped(lambda values: reservations.delete(values, record))
                )
        self.reading.known.remove(record)
        if isinstance(record, HostRecord) and record.branch:
            self.branches.prune(record.owner)

    def keep_log(self, record: Record) -> str:
        return ""

    def prune_images(
        self,
        older_than: float,
        own: frozenset[str] = frozenset(),
        *,
        check: bool = False,
        ignored: frozenset[str] = frozenset(),
    ) -> list[str]:
        """Delete unused deployed items of content libraries, and an unused register."""
        values, all_machines = self._read_all()
        records = [
            record
            for record, _machine in reservations.list_records(values, all_machines)
            if not (isinstance(record, TemplateRecord) and record.uuid in ignored)
        ]
        removed_names = self.images.prune(records, older_than, own, check=check)
        if (
            not check
            and values
            and not (
                records or reservations.kept(values) or anyone(dict(values), self.leases.now())
            )
        ):
            self._close_register()
        return removed_names

    def sweep(self, owner: str, older_than: float, *, check: bool = False) -> SweepResult:
        """Delete branches whose controller died, and addresses of deleted templates. The result is
        empty: vCenter creates and deletes all files with their machines.
        """
        if not check:
            self.branches.prune(owner)
            self.template_ssh.prune()
        return SweepResult((), ())

    def facts(self, record: Record) -> MachineFacts:
        machine = self._seen.get(record.domain)
        # A machine that is only reserved has no store yet: the facts name its future location.
        return MachineFacts(
            storage=machine.store if machine else self.lookup.storage or "its source's",
            esxi_host=self.lookup.host_name(machine.host) if machine else "",
            cluster=self.place.cluster,
            folder=self.place.folder,
            resource_pool=self.place.pool,
        )

    def _leave(self, values: Values, template: TemplateRecord) -> None:
        branch_records.refuse_if_used(values, template)
        reservations.leave(values, template, self.reading.machines)

    def _remove(self, record: Record) -> None:
        deadline = Deadline(REMOVAL)
        self.machines.remove(
            record, deadline, lambda machine: self.volumes.spare(record, machine, deadline)
        )

    def _addresses(self) -> list[str]:
        """Return every address that a host or a template of any owner has."""
        values = self.reading.refreshed(self.register.read().values)
        return reservations.addresses(values, self.reading.known)

    def _close_register(self) -> None:
        """Delete the register, under a lock that keeps all other controllers out."""
        self.leases.acquire(CLOSING, "the register", Deadline(0.0))
        values, all_machines = self._read_all()
        other_values = {key: value for key, value in values.items() if key != CLOSING}
        if (
            reservations.list_records(values, all_machines)
            or reservations.kept(values)
            or anyone(other_values, self.leases.now())
        ):
            self.register.change(open_again)
            return
        self.register.remove()

    def _read_all(self) -> tuple[Values, list[Machine]]:
        """Return the register and all machines, read in this order.

        An object that is in neither does not exist.
        """
        folder = self.lookup.folder()
        if folder is None:
            return {}, []
        values = dict(self.register.read().values)
        all_machines = machines(self.session, folder)
        self.reading.known.learn(values.get(reservations.STAMP, ""), all_machines)
        self._seen = {machine.name: machine for machine in all_machines}
        return values, all_machines


def open_provider(
    uri: str, storage: str | None = None, partial_login: Login = NOBODY
) -> VsphereProvider:
    """Open a cluster of a vCenter.

    :param storage: the datastore for the yard's disks; without one, clones stay on their source's
        datastore.
    :param partial_login: the user's login; missing values are read from the environment.
    """
    location = place.parse(uri)
    session = Session(location, place.login(partial_login))
    try:
        return VsphereProvider(uri, session, Lookup(session, location, storage or ""))
    except BaseException:
        session.close()
        raise
