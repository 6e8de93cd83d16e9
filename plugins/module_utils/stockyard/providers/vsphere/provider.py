# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vSphere provider: the port, put together from its parts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

from ...core.clock import Deadline
from ...core.host import Host, HostRecord, HostSpec
from ...core.image import BuildOptions
from ...core.login import NOBODY, Login
from ...core.network import GuestNetwork
from ...core.provider import (
    Capabilities,
    Channel,
    Observation,
    Progress,
    R,
    Recipe,
    Record,
    Stranger,
    Swept,
    Template,
)
from ...core.template import TemplateRecord
from ...errors import Conflict, HypervisorError, PoolFull, Unsupported
from . import fork, place, pools, privileges, templates, yardbook
from .addresses import Range
from .guestinfo import GuestinfoChannel
from .hosts import Hosts
from .inventory import machines
from .leases import CLOSING, Leases, anyone, open_again
from .lookup import Lookup
from .machines import Machines
from .records import Machine
from .register import Edit, Register, Values
from .session import Session
from .task import Tasks

# What vSphere keeps for addresses that are set by hand.
FIRST_MAC, MACS = "00:50:56:00:00:00", 1 << 22
REMOVAL = 600.0
# Where no host answers at its address, what the guest is told of its network does not matter.
NOWHERE = "255.0.0.0"


class VsphereProvider:
    """One session on a vCenter, and the folder that the yard is in."""

    def __init__(self, uri: str, session: Session, lookup: Lookup) -> None:
        self.uri = uri
        self.place = lookup.place
        self.capabilities = Capabilities(
            modes=("instant", "linked", "full"), parallel=self.place.parallel, endpoints=self.place.endpoints,
            first_mac=FIRST_MAC, macs=MACS, own_files=False, builds=False,
        )  # fmt: skip
        self.session = session
        self.lookup = lookup
        self.tasks = Tasks(session)
        self.register = Register(session, lookup, self.tasks)
        self.leases = Leases(session, self.register)
        self.forks = fork.Forks(session, self.tasks, lookup)
        self.machines = Machines(session, self.tasks, lookup, self.register)
        self.hosts = Hosts(self.forks, self.machines, self.register)
        self._known = yardbook.Known()
        self.pools = pools.Pools(session, self.tasks, lookup, self.register, self._current)
        self._allowed = threading.Lock()
        self._may = False
        self._seen: dict[str, Machine] = {}

    def close(self) -> None:
        self.session.close()

    def preflight(self) -> list[str]:
        return privileges.missing(self.session, self.lookup)

    def exclusive(self, name: str, deadline: Deadline) -> AbstractContextManager[None]:
        self._demand()
        return self.leases.held(name, deadline)

    def observe(self, owner: str) -> Observation:
        values, read = self._everything()
        found = yardbook.everything(values, read)
        mine = [(r, m) for r, m in found if not isinstance(r, Stranger) and r.owner == owner]
        return Observation(
            templates=tuple(
                Template(r, templates.problem(r, m, values, self.place.frozen))
                for r, m in mine if isinstance(r, TemplateRecord)
            ),
            hosts=tuple(Host(r, m.state if m else "off") for r, m in mine if isinstance(r, HostRecord)),
            strangers=(*(r for r, _machine in found if isinstance(r, Stranger)), *pools.read(values)[1]),
            addresses=frozenset(r.address for r, _machine in found if isinstance(r, HostRecord)),
            names=frozenset({m.name for m in read} | {name for name, _record in yardbook.reserved(values)}),
            pools=tuple(pools.read(values, owner)[0]),
        )  # fmt: skip

    def ensure_image(self, recipe: Recipe, build: BuildOptions, progress: Progress, deadline: Deadline) -> str:
        if not recipe.source:
            raise Unsupported(
                "images are not built here, but cloned.", name=self.uri,
                remedy="name by source a machine or a template of vCenter's that has the agent in it",
            )  # fmt: skip
        return templates.image(self.lookup, recipe.source)

    def resolve(self, recipe: Recipe, build: BuildOptions, deadline: Deadline) -> dict[str, str]:
        return {}  # what is in a source, nobody but its owner knows

    def versions(self, image: str) -> dict[str, str]:
        return {}

    def create_template(self, record: TemplateRecord, deadline: Deadline) -> None:
        self._demand()
        ref, _change = fork.origin(self.lookup, record.image, record.title)
        source = self.forks.source(ref, record.title)
        self.forks.cold(record, source, "linked" if source.snapshot is not None else "full", deadline)
        self.register.change(yardbook.stamp)

    def freeze(self, record: TemplateRecord, deadline: Deadline) -> TemplateRecord:
        machine = self.machines.need(record)
        frozen = "no"
        if self.place.frozen:
            templates.freeze(self.session, self.channel(record, deadline), machine, record.title, deadline)
            frozen = "yes"
        return self.claim(record, phase="frozen", checksums={"frozen": frozen})

    def check_host(self, spec: HostSpec) -> None:
        templates.check_host(spec, self.place)

    def host_address(self, spec: HostSpec, uuid: str) -> str:
        range_: Range | None = self.place.addresses
        if range_ is None:
            return ""
        return str(self._twice(Conflict, lambda: range_.free(UUID(uuid).int, self._addresses())))

    def guest_network(self, record: HostRecord) -> GuestNetwork:
        range_: Range | None = self.place.addresses
        mask, gateway = (range_.netmask, range_.gateway) if range_ else (NOWHERE, "")
        return GuestNetwork(record.address, mask, gateway if record.spec.egress == "open" else "", self.place.interface)

    def create_host(self, record: HostRecord, template: TemplateRecord) -> None:
        edit = self._stamped(lambda values: pools.reserve(values, self._known, record, template), refresh=True)
        self._twice(PoolFull, lambda: self.register.change(edit))

    def fork(self, host: HostRecord, template: TemplateRecord, mode: str, deadline: Deadline) -> None:
        self.hosts.make(host, template, mode, deadline)
        self._known.made(host)
        self.register.change(self._stamped(lambda values: yardbook.drop(values, host)))

    def start(self, record: Record, deadline: Deadline) -> None:
        machine = self.machines.need(record)
        if machine.power == "poweredOn":
            return
        self.machines.connect(machine, record, False, deadline)
        fork.power_on(self.tasks, record, machine.ref, deadline)

    def stop(self, record: Record, deadline: Deadline) -> None:
        self.machines.stop(record, deadline)

    def resize(self, record: HostRecord, size: Any, deadline: Deadline) -> None:
        raise Unsupported("machines are not resized here.", name=record.title, remedy="replace the host")

    def set_link(self, record: Record, up: bool) -> None:
        machine = self.machines.need(record)
        if machine.power != "poweredOn":
            raise HypervisorError("its machine does not run.", name=record.title)
        self.machines.connect(machine, record, up, Deadline(REMOVAL))

    def channel(self, record: Record, deadline: Deadline) -> Channel:
        return GuestinfoChannel(self.session, self.tasks, self.machines.ref(record), record.title)

    def claim(self, record: R, **changes: Any) -> R:
        return self.machines.claim(record, **changes)

    def destroy(self, record: Record) -> None:
        if isinstance(record, TemplateRecord):
            if self.machines.present(record) is None:
                return
            self.register.change(lambda values: yardbook.leave(values, record, self._made))
            self.machines.remove(record, Deadline(REMOVAL))
            self.register.change(lambda values: yardbook.left(values, record))
        else:
            self.machines.remove(record, Deadline(REMOVAL))
            if yardbook.HOST + record.domain in self.register.read().values:
                self.register.change(self._stamped(lambda values: yardbook.drop(values, record)))
        self._known.gone(record)

    def keep_log(self, record: Record) -> str:
        return ""

    def prune_images(self, older_than: float) -> list[str]:
        """There are no images; a register that nobody uses any more goes."""
        values, read = self._everything()
        used = yardbook.everything(values, read) or yardbook.pools(values)
        if not values or used or anyone(dict(values), self.leases.now()):
            return []
        self._close_register()
        return []

    def sweep(self, owner: str, older_than: float, *, check: bool = False) -> Swept:
        """No file is ours to find: vCenter makes and removes them with their machines."""
        return Swept((), ())

    def facts(self, record: Record) -> dict[str, Any]:
        machine = self._seen.get(record.domain)
        place = {"folder": self.place.folder, "cluster": self.place.cluster, "pool": self.place.pool}
        if machine is None:
            # Reserved, and not made yet: where it will be.
            return {"storage": self.lookup.storage or "its source's", "esxi_host": "", **place}
        return {"storage": machine.store, "esxi_host": self.lookup.host_name(machine.host), **place}

    def _addresses(self) -> list[str]:
        """Every address that a host of any owner has."""
        values = self._refreshed(self.register.read().values)
        reserved = (r for _name, r in yardbook.reserved(values) if isinstance(r, HostRecord))
        return [host.address for host in (*self._known.hosts.values(), *reserved)]

    def _made(self) -> list[Machine]:
        return machines(self.session, self.lookup.made_folder())

    def _close_register(self) -> None:
        """Take the register away, while a lock of its own keeps everybody out."""
        self.leases.take(CLOSING, "the register", Deadline(0.0))
        values, read = self._everything()
        others = {k: v for k, v in values.items() if k != CLOSING}
        if yardbook.everything(values, read) or yardbook.pools(values) or anyone(others, self.leases.now()):
            self.register.change(open_again)
            return
        self.register.remove()

    def _everything(self) -> tuple[Values, list[Machine]]:
        """The register, then all machines: what is in neither is not there."""
        folder = self.lookup.folder()
        if folder is None:
            return {}, []
        values = dict(self.register.read().values)
        read = machines(self.session, folder)
        self._known.learn(values.get(yardbook.STAMP, ""), read)
        self._seen = {machine.name: machine for machine in read}
        return values, read

    def _refreshed(self, values: Any) -> Any:
        """Read all machines again, if anything was reserved or made since by somebody else."""
        if self._known.stamp != values.get(yardbook.STAMP, ""):
            self._known.learn(values.get(yardbook.STAMP, ""), machines(self.session, self.lookup.made_folder()))
        return values

    def _twice(self, error: type[Exception], act: Callable[[], Any]) -> Any:
        try:
            return act()
        except error:
            # Hosts that others destroyed leave no trace in the register.
            self._known.stamp = None
            return act()

    def _current(self, values: Values | None = None) -> yardbook.Known:
        """What all machines are, by a register that was read; without one, it is forgotten."""
        self._known.stamp = None if values is None else self._known.stamp
        self._refreshed(values or {})
        return self._known

    def _stamped(self, edit: Edit, *, refresh: bool = False) -> Edit:
        """A change after which what is known is still all there is, if it was before."""

        def stamped(values: Values) -> None:
            if refresh:
                self._refreshed(values)
            current = self._known.stamp == values.get(yardbook.STAMP, "")
            edit(values)
            if current:
                self._known.stamp = values.get(yardbook.STAMP, "")

        return stamped

    def _demand(self) -> None:
        """Look once, before the first change, whether this user may do what has to be done."""
        with self._allowed:
            if not self._may:
                privileges.demand(self.session, self.lookup)
                self._may = True


def open_provider(uri: str, storage: str | None = None, given: Login = NOBODY) -> VsphereProvider:
    """Open a cluster of a vCenter.

    :param storage: the datastore that the yard's disks are on; without one, clones stay where their source is.
    :param given: who logs in; what it leaves out is looked for in the environment.
    """
    where = place.parse(uri)
    session = Session(where, place.login(given))
    try:
        return VsphereProvider(uri, session, Lookup(session, where, storage or ""))
    except BaseException:
        session.close()
        raise
