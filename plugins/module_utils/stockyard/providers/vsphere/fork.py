# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instant, linked and full clones of machines, and the check of their results."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ...clock import Deadline
from ...errors import HypervisorError, NotFound, OperationRefused, StockyardError, Unsupported
from ...model.branch import BranchRecord
from ...model.host import HostRecord
from ...model.observation import Record
from ...model.template import TemplateRecord
from . import api, disks, specs
from .designer import Designer
from .faults import LOST, fault_text, is_a
from .inventory import DEVICES, PROPERTIES, device, devices_of, machine_of, properties
from .lookup import Lookup
from .records import RECORD, Machine, to_value
from .session import Session
from .task import Tasks

# A source that keeps running gets one delta disk for each of its clones; vSphere fails at 255.
MOST_DELTAS = 200
# The fault of a source that does not run.
STOPPED = "InvalidPowerState"
# The faults of a vCenter that has no instant clones, or none for this machine.
NO_CLONE = ("MethodNotFound", "NotSupported", "NotImplemented")


@dataclass(frozen=True)
class Source:
    """A machine to clone.

    :param snapshot: its current snapshot, which a linked clone needs.
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
        """Read the machine that will be cloned."""
        values = properties(
            self.session, ref, (*PROPERTIES, DEVICES, "snapshot.currentSnapshot"), name
        )
        return Source(machine_of(ref, values), values.get("snapshot.currentSnapshot"))

    def instant(self, record: Record, source: Machine, origin_uuid: str, deadline: Deadline) -> Any:
        """Create a running copy of a running machine. :meth:`verify` checks the result.

        :param source: the machine of a template or of a parent, with its devices.
        :param origin_uuid: the uuid of the template or branch: vCenter checks its first fork.

        :raises Unsupported: if an instant clone is impossible; a cold clone may work.
        """
        spec = self.designer.instant(record, source.devices)
        with _clones_supported(record):
            self._check(record, source, origin_uuid, spec, deadline)
            return self.tasks.run(
                "create an instant clone",
                record.title,
                lambda: source.ref.InstantClone_Task(spec),
                deadline,
            )

    def check_children(
        self, parent: HostRecord, source: Machine, branch: BranchRecord, deadline: Deadline
    ) -> None:
        """Let vCenter check that children of a host can be created.

        :param source: the host's machine, with its devices.
        :raises Unsupported: if this vCenter has no instant clones.
        :raises HypervisorError: with the reasons of vCenter.
        """
        # The name and the uuid of no machine.
        child = replace(parent, name=f"branch-{branch.uuid[:8]}", uuid=branch.uuid)
        spec = self.designer.instant(child, source.devices)
        with _clones_supported(parent):
            self._check(parent, source, branch.uuid, spec, deadline)

    def cold(self, record: Record, source: Source, mode: str, deadline: Deadline) -> Any:
        """Clone a machine into one that is off.

        :raises Unsupported: for a linked clone of a source without a snapshot.
        """
        if mode == "linked" and source.snapshot is None:
            raise Unsupported(
                "a linked clone needs a snapshot of the source, and the source has none.",
                name=record.title,
                cause=f"{source.machine.name} has no snapshot",
                remedy="create a snapshot in vCenter while the machine is off",
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

    def check_forkable(self, template: TemplateRecord, machine: Machine) -> None:
        """Check whether a template can be forked.

        :raises Unsupported: with the reason, if the template cannot be forked.
        """
        if machine.power != "poweredOn":
            raise Unsupported(
                "the template is not running.", name=template.title, remedy="rebuild the template"
            )
        if self.lookup.place.frozen and not machine.frozen:
            raise Unsupported(
                "the template is not frozen.",
                name=template.title,
                cause="runtime.instantCloneFrozen is false",
                remedy="rebuild the template, or accept such a source with frozen=false in the URI",
            )
        if not machine.frozen:
            _check_chain(machine, template, "rebuild the template, or freeze the template again")

    def check_branchable(self, parent: HostRecord, machine: Machine) -> None:
        """Check whether a host can be branched.

        :param machine: the host's machine, with its devices.
        :raises OperationRefused: if the host does not run.
        :raises Unsupported: if the host has volumes, or a disk with too many delta disks.
        """
        if machine.power != "poweredOn":
            raise OperationRefused(
                "the host does not run.",
                name=parent.title,
                cause=f"vCenter reports {machine.power}",
                remedy="start the host, and run again",
            )
        if any(disks.is_volume(hardware) for hardware in machine.devices):
            raise Unsupported(
                "a host with volumes cannot be branched.",
                name=parent.title,
                remedy="detach its volumes, and run again",
            )
        _check_chain(machine, parent, "branch another host, or replace this one")

    def _check(
        self,
        record: Record,
        source: Machine,
        origin_uuid: str,
        spec: Any,
        deadline: Deadline,
    ) -> None:
        """Let vCenter check that the fork would succeed.

        One check for each template or branch is enough, because its forks differ in names alone.
        """
        with self._checking:
            if origin_uuid not in self._checked:
                self._ask(record, source, spec, deadline)
                self._checked.add(origin_uuid)

    def _ask(self, record: Record, source: Machine, spec: Any, deadline: Deadline) -> None:
        checker = self.session.content.vmProvisioningChecker
        answers = self.tasks.run(
            "check the fork",
            record.title,
            lambda: checker.CheckInstantClone_Task(source.ref, spec, []),
            deadline,
        )
        faults = [
            fault for answer in answers or [] for fault in getattr(answer, "error", None) or []
        ]
        if faults:
            raise HypervisorError(
                "vCenter refuses to create this fork.",
                name=record.title,
                cause="; ".join(f"{fault_text(failure)}" for failure in faults)[:1000],
                remedy="correct the cause",
            ) from next((failure for failure in faults if is_a(failure, STOPPED)), None)

    def verify(self, record: Record, source: Machine, ref: Any, deadline: Deadline) -> list[Any]:
        """Check the location and identity of a fork, and return its network cards.

        :raises HypervisorError: if the fork differs from the request; such a fork must not be
            reported as created.
        """
        # A fork's devices have the keys of its source's. Only the network card matters here.
        keys = [device(card.key) for card in specs.nics(source.devices)]
        values = properties(
            self.session, ref, (*PROPERTIES, *keys, "parent", "resourcePool"), record.title
        )
        lookup = self.lookup
        cards = specs.nics(devices_of(values))
        checks = {
            "folder": (_id(values.get("parent")), _id(lookup.made_folder())),
            "pool": (_id(values.get("resourcePool")), _id(lookup.pool_of(record))),
            "ESXi host": (_id(values.get("runtime.host")), source.host),
            "uuid": (values.get("config.uuid"), record.uuid),
            "MAC": (cards[0].macAddress.lower() if cards else "", record.mac),
            "network link": ([nic.connectable.connected for nic in cards], [False]),
        }
        differences = [
            f"{fact} is {actual}, not {expected}"
            for fact, (actual, expected) in checks.items()
            if actual != expected
        ]
        if differences:
            raise HypervisorError(
                "the fork differs from the request.",
                name=record.title,
                cause="; ".join(differences),
                remedy="check the fork's events in vCenter",
            )
        self._mark(record, ref, values, deadline)
        return cards

    def _mark(self, record: Record, ref: Any, values: dict[str, Any], deadline: Deadline) -> None:
        """Write the fork's own record into it, if vCenter took only the guest's values."""
        if machine_of(ref, values).values.get(RECORD) != to_value(record):
            spec = specs.reconfigure(self.designer.values(record))
            self.tasks.run(
                "write the record", record.title, lambda: ref.ReconfigVM_Task(spec), deadline
            )


def _check_chain(machine: Machine, record: Record, remedy: str) -> None:
    """Check that a running machine can get one more delta disk, as each of its clones adds one.

    :raises Unsupported: if it cannot.
    """
    chain = specs.chain_length(machine.devices)
    if chain >= MOST_DELTAS:
        raise Unsupported(
            f"the disk has {chain} delta disks, one for each fork.",
            name=record.title,
            cause="vSphere fails at 255",
            remedy=remedy,
        )


@contextmanager
def _clones_supported(record: Record) -> Iterator[None]:
    """Translate the faults of a vCenter without instant clones.

    :raises Unsupported: if there was one of them.
    """
    try:
        yield
    except StockyardError as error:
        if is_a(error.__cause__, *NO_CLONE):
            raise Unsupported(
                "this vCenter does not support instant clones.",
                name=record.title,
                cause=fault_text(error.__cause__),
                remedy="use vCenter 6.7 or later",
            ) from error
        raise


def was_perhaps_made(error: StockyardError) -> bool:
    """Check whether a clone may exist although the request for it ended with an error."""
    return was_lost(error) or is_a(error.__cause__, "DuplicateName")


def was_lost(error: StockyardError) -> bool:
    """Check whether the connection failed."""
    return isinstance(error.__cause__, LOST)


def power_on(tasks: Tasks, record: Record, ref: Any, deadline: Deadline) -> None:
    """Start a machine, or resume a suspended one."""
    tasks.run("start the machine", record.title, ref.PowerOnVM_Task, deadline)


def origin(lookup: Lookup, image: str, name: str) -> tuple[Any, str]:
    """Return the machine that a template's image names, and its version when it was cloned.

    :raises NotFound: if the machine no longer exists.
    """
    uuid, _slash, change = image.partition("@")
    ref = lookup.by_uuid(uuid)
    if ref is None or not isinstance(ref, api.vim().VirtualMachine):
        raise NotFound(
            "the source machine no longer exists.", name=name, remedy="declare another source"
        )
    return ref, change


def _id(ref: Any) -> str:
    return ref._moId if ref is not None else ""
