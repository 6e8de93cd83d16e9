# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creation of the machines of reserved hosts, from their template in the requested mode, and of
derived templates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...clock import Deadline
from ...errors import OperationRefused, StockyardError
from ...model.host import HostRecord
from ...model.observation import Record
from ...model.template import TemplateRecord
from . import fork, reservations, templates
from .faults import is_a
from .inventory import DEVICES
from .labels import Labels
from .machine_cache import Reading
from .machines import Machines
from .records import Machine
from .register import Register

# Seconds within which a fork appears if the answer to its request was lost.
ADOPTION = 15.0
# Seconds for which parallel forks share one reading of their frozen template.
SHARED = 1.0


class Hosts:
    """Creation of the machines of hosts and derived templates, and recovery after an interrupted
    creation.
    """

    def __init__(
        self,
        forks: fork.Forks,
        machines: Machines,
        register: Register,
        labels: Labels,
        reading: Reading,
    ) -> None:
        self.forks = forks
        self.machines = machines
        self.register = register
        self.labels = labels
        self.reading = reading
        self._hardware: dict[str, tuple[str, tuple[Any, ...]]] = {}
        self._looked: dict[str, tuple[float, Machine]] = {}

    def make(
        self, host: HostRecord, template: TemplateRecord, mode: str, deadline: Deadline
    ) -> None:
        """Create a host's machine, which runs when this returns.

        :raises Unsupported: if this mode is not possible.
        """
        if mode == "instant":
            self._clone(host, template.uuid, lambda: self._source(template), deadline)
        else:
            templates.refuse_cold_clone(template)
            origin, change = fork.origin(self.forks.lookup, template.image, template.title)
            cold_source = self.forks.source(origin, template.title)
            templates.refuse_changed(cold_source.machine, change, template)
            ref = self.forks.cold(host, cold_source, mode, deadline)
            self.machines.learn(host, ref)
            fork.power_on(self.forks.tasks, host, ref, deadline)
        self._finish(host)

    def make_child(
        self, host: HostRecord, parent: HostRecord, branch: str, deadline: Deadline
    ) -> None:
        """Create a host's machine from its running parent.

        :param branch: the uuid of the branch.
        :raises StockyardError: with the reason, if the parent can no longer be branched.
        """
        self._clone(host, branch, lambda: self.parent(parent), deadline)
        self._finish(host)

    def derive(self, record: TemplateRecord, parent: TemplateRecord, deadline: Deadline) -> None:
        """Create a template's machine from a frozen template. The machine runs when this returns.

        :raises Unsupported: if the parent can no longer be forked.
        """
        self._clone(record, parent.uuid, lambda: self._source(parent), deadline)
        self.labels.write(record, self.machines.ref(record))

    def parent(self, parent: HostRecord) -> Machine:
        """Return the machine of a host that can be branched, with its devices.

        :raises StockyardError: with the reason, if the host cannot be branched.
        """
        machine = self.machines.find_existing(parent, DEVICES)
        if machine is None:
            raise OperationRefused(
                "the host does not run.",
                name=parent.title,
                cause="it has no machine",
                remedy="branch another host",
            )
        self.forks.check_branchable(parent, machine)
        return machine

    def _clone(
        self,
        record: Record,
        origin_uuid: str,
        read_source: Callable[[], Machine],
        deadline: Deadline,
    ) -> None:
        """Create an instant clone and check the result.

        :param read_source: returns the machine to clone, or raises an error with the reason why it
            cannot be cloned.
        """
        source = read_source()
        try:
            ref = self.forks.instant(record, source, origin_uuid, deadline)
        except StockyardError as error:
            if is_a(error.__cause__, fork.STOPPED):
                # The power state changed after the last reading.
                self._looked.pop(origin_uuid, None)
                read_source()
            ref = self._adopted(record, error, deadline)
        self.machines.learn(record, ref, self.forks.verify(record, source, ref, deadline))

    def _finish(self, host: HostRecord) -> None:
        """Label a new machine, and delete the reservation of its host."""
        self.labels.write(host, self.machines.ref(host))
        self.reading.known.add(host)
        # The machine shows that the host was created. The next write to the register also deletes
        # its reservation.
        self.register.later(self.reading.stamped(lambda values: reservations.delete(values, host)))

    def _source(self, template: TemplateRecord) -> Machine:
        """Return a template's current machine with its hardware, constant after freezing.

        :raises Unsupported: if the template cannot be forked.
        """
        last_read = self._looked.get(template.uuid)
        if last_read and time.monotonic() - last_read[0] < SHARED:
            return last_read[1]
        machine = self.machines.get(template)
        hardware = self._hardware.get(template.uuid)
        if hardware is None or hardware[0] != machine.change or not machine.frozen:
            hardware = machine.change, self.machines.get(template, DEVICES).devices
            self._hardware[template.uuid] = hardware
        complete_machine = replace(machine, devices=hardware[1])
        if complete_machine.frozen and complete_machine.power == "poweredOn":
            self._looked[template.uuid] = time.monotonic(), complete_machine
        self.forks.check_forkable(template, complete_machine)
        return complete_machine

    def _adopted(self, record: Record, error: StockyardError, deadline: Deadline) -> Any:
        """Return the machine of a fork if vCenter created it although its answer was lost."""
        if not fork.was_perhaps_made(error):
            raise error
        limit = deadline.within(ADOPTION if fork.was_lost(error) else 0.0)
        self.register.flush()
        while self._is_new(record):
            machine = self.machines.find_existing(record)
            if machine is not None and machine.power == "poweredOn":
                return machine.ref
            if limit.passed():
                break
            limit.pause(1.0)
        raise error

    def _is_new(self, record: Record) -> bool:
        """Return whether a machine with this record must be the one that was requested.

        A host is new while it is reserved: a host that has had its machine for long is not created
        again. A template is always created with a new uuid.
        """
        if isinstance(record, TemplateRecord):
            return True
        return reservations.HOST + record.domain in self.register.read().values
