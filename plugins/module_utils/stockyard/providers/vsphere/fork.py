# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making machines out of machines: instant, linked and full clones, and the look at what became of
them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from ...clock import Deadline
from ...errors import HypervisorError, NotFound, StockyardError, Unsupported
from ...model.host import HostRecord
from ...model.observation import Record
from ...model.template import TemplateRecord
from . import api, specs
from .designer import Designer
from .faults import LOST, is_a, said
from .inventory import DEVICES, PROPERTIES, device, devices_of, machine_of, properties
from .lookup import Lookup
from .records import RECORD, Machine, to_value
from .session import Session
from .task import Tasks

# A source that runs on gets one delta disk more for each clone of it, and vSphere fails at 255.
MOST_DELTAS = 200
# What a vCenter says that has no instant clones, or not for this machine.
NO_CLONE = ("MethodNotFound", "NotSupported", "NotImplemented")


@dataclass(frozen=True)
class Source:
    """A machine to clone.

    :param snapshot: its snapshot of now, which a linked clone needs.
    """

    machine: Machine
    snapshot: Any = None


class Forks:
    """The clones of one session."""

    def __init__(self, session: Session, tasks: Tasks, lookup: Lookup) -> None:
        self.session = session
        self.tasks = tasks
        self.lookup = lookup
        self.designer = Designer(lookup)
        self._checked: set[str] = set()
        self._checking = threading.Lock()

    def source(self, ref: Any, name: str) -> Source:
        """Read what is to be cloned."""
        found = properties(
            self.session, ref, (*PROPERTIES, DEVICES, "snapshot.currentSnapshot"), name
        )
        return Source(machine_of(ref, found), found.get("snapshot.currentSnapshot"))

    def instant(
        self, host: HostRecord, template: TemplateRecord, source: Machine, deadline: Deadline
    ) -> Any:
        """Fork a running template. What became of it says :meth:`verify`.

        :param source: the template's machine, with its devices.

        :raises Unsupported: when it cannot be, and a cold clone may.
        """
        self.fit(template, source)
        spec = self.designer.instant(host, source.devices)
        self._check(host, template, source, spec, deadline)
        try:
            ref = self.tasks.run(
                "fork the template",
                host.title,
                lambda: source.ref.InstantClone_Task(spec),
                deadline,
            )
        except StockyardError as error:
            if is_a(error.__cause__, *NO_CLONE):
                raise Unsupported(
                    "this vCenter has no instant clones.",
                    name=host.title,
                    cause=said(error.__cause__),
                    remedy="use vCenter 6.7 or later",
                ) from error
            raise
        return ref

    def cold(self, record: Record, source: Source, mode: str, deadline: Deadline) -> Any:
        """Clone a machine into one that is off.

        :raises Unsupported: for a linked clone of a source without a snapshot.
        """
        if mode == "linked" and source.snapshot is None:
            raise Unsupported(
                "a linked clone needs a snapshot of the source, and it has none.",
                name=record.title,
                cause=f"{source.machine.name} has no snapshot",
                remedy="make one in vCenter, with the machine off",
            )
        snapshot = source.snapshot if mode == "linked" else None
        spec = self.designer.cold(record, source.machine.devices, mode, snapshot)
        folder = self.lookup.made_folder()
        return self.tasks.run(
            "clone the source",
            record.title,
            lambda: source.machine.ref.CloneVM_Task(folder, record.domain, spec),
            deadline,
        )

    def fit(self, template: TemplateRecord, machine: Machine) -> None:
        """Look whether a template can be forked.

        :raises Unsupported: when it cannot, with the reason.
        """
        if machine.power != "poweredOn":
            raise Unsupported(
                "the template does not run.", name=template.title, remedy="build the template anew"
            )
        if self.lookup.place.frozen and not machine.frozen:
            raise Unsupported(
                "the template is not frozen.",
                name=template.title,
                cause="runtime.instantCloneFrozen is false",
                remedy="build the template anew, or allow such a source by frozen=false in the URI",
            )
        chain = specs.chain_length(machine.devices)
        if not machine.frozen and chain >= MOST_DELTAS:
            raise Unsupported(
                f"its disk has {chain} delta disks under it, one for each fork.",
                name=template.title,
                cause="vSphere fails at 255",
                remedy="build the template anew, or freeze it",
            )

    def _check(
        self,
        host: HostRecord,
        template: TemplateRecord,
        source: Machine,
        spec: Any,
        deadline: Deadline,
    ) -> None:
        """Let vCenter look whether it would work: once for each template, for its forks differ in
        names alone.
        """
        with self._checking:
            if template.uuid not in self._checked:
                self._ask(host, source, spec, deadline)
                self._checked.add(template.uuid)

    def _ask(self, host: HostRecord, source: Machine, spec: Any, deadline: Deadline) -> None:
        checker = self.session.content.vmProvisioningChecker
        try:
            answers = self.tasks.run(
                "check the fork",
                host.title,
                lambda: checker.CheckInstantClone_Task(source.ref, spec, []),
                deadline,
            )
        except StockyardError as error:
            if not is_a(error.__cause__, *NO_CLONE):
                raise
            answers = []
        faults = [e for answer in answers or [] for e in getattr(answer, "error", None) or []]
        if faults:
            raise HypervisorError(
                "vCenter would not make this fork.",
                name=host.title,
                cause="; ".join(f"{said(f)}" for f in faults)[:1000],
                remedy="mend what it names",
            )

    def verify(self, host: HostRecord, source: Machine, ref: Any, deadline: Deadline) -> list[Any]:
        """See where a fork landed and that it is itself; returns its network cards.

        :raises HypervisorError: when it is not what was asked for: nobody may be told that it is.
        """
        # A fork's devices have the numbers of its source's. All that is of interest of them is the
        # network card.
        keys = [device(card.key) for card in specs.nics(source.devices)]
        found = properties(
            self.session, ref, (*PROPERTIES, *keys, "parent", "resourcePool"), host.title
        )
        lookup = self.lookup
        cards = specs.nics(devices_of(found))
        told = {
            "folder": (_id(found.get("parent")), _id(lookup.made_folder())),
            "pool": (_id(found.get("resourcePool")), _id(lookup.pool_of(host))),
            "ESXi host": (_id(found.get("runtime.host")), source.host),
            "uuid": (found.get("config.uuid"), host.uuid),
            "MAC": (cards[0].macAddress.lower() if cards else "", host.mac),
            "network link": ([c.connectable.connected for c in cards], [False]),
        }
        wrong = [f"{what} is {is_}, not {was}" for what, (is_, was) in told.items() if is_ != was]
        if wrong:
            raise HypervisorError(
                "the fork is not where or what it was to be.",
                name=host.title,
                cause="; ".join(wrong),
                remedy="look at the fork's events in vCenter",
            )
        self._mark(host, ref, found, deadline)
        return cards

    def _mark(self, host: HostRecord, ref: Any, found: dict[str, Any], deadline: Deadline) -> None:
        """Have the fork's own record in it, where vCenter took the guest's values alone."""
        if machine_of(ref, found).values.get(RECORD) != to_value(host):
            spec = specs.reconfigure(self.designer.values(host))
            self.tasks.run(
                "write the record", host.title, lambda: ref.ReconfigVM_Task(spec), deadline
            )


def was_perhaps_made(error: StockyardError) -> bool:
    """Whether a clone may be there although asking for it ended with an error."""
    return was_lost(error) or is_a(error.__cause__, "DuplicateName")


def was_lost(error: StockyardError) -> bool:
    """Whether it is the connection that failed."""
    return isinstance(error.__cause__, LOST)


def power_on(tasks: Tasks, record: Record, ref: Any, deadline: Deadline) -> None:
    """Start a machine, or let a suspended one go on."""
    tasks.run("start the machine", record.title, ref.PowerOnVM_Task, deadline)


def origin(lookup: Lookup, image: str, name: str) -> tuple[Any, str]:
    """The machine that a template's image is, and the version that it had then.

    :raises NotFound: when it is gone.
    """
    uuid, _slash, change = image.partition("@")
    ref = lookup.by_uuid(uuid)
    if ref is None or not isinstance(ref, api.vim().VirtualMachine):
        raise NotFound(
            "the machine that it was cloned from is gone.", name=name, remedy="name another source"
        )
    return ref, change


def _id(ref: Any) -> str:
    return ref._moId if ref is not None else ""
