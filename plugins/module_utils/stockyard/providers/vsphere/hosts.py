# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines of reserved hosts: made of their template in the mode that is asked for, and
started.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from ...clock import Deadline
from ...errors import StockyardError
from ...model.host import HostRecord
from ...model.template import TemplateRecord
from . import fork, templates
from .faults import is_a
from .inventory import DEVICES
from .machines import Machines
from .records import Machine
from .register import Register
from .reservations import HOST

# Seconds in which a fork appears whose answer was lost.
ADOPTION = 15.0
# Seconds in which forks that are made side by side share one look at their frozen template.
SHARED = 1.0


class Hosts:
    """Makes machines, and finds out what became of those whose making was cut short."""

    def __init__(self, forks: fork.Forks, machines: Machines, register: Register) -> None:
        self.forks = forks
        self.machines = machines
        self.register = register
        self._hardware: dict[str, tuple[str, tuple[Any, ...]]] = {}
        self._looked: dict[str, tuple[float, Machine]] = {}

    def make(
        self, host: HostRecord, template: TemplateRecord, mode: str, deadline: Deadline
    ) -> None:
        """Make a host's machine, which runs when this returns.

        :raises Unsupported: when this mode cannot be had.
        """
        if mode == "instant":
            source = self._source(template)
            try:
                ref = self.forks.instant(host, template, source, deadline)
            except StockyardError as error:
                if is_a(error.__cause__, "InvalidPowerState"):
                    # What it was a moment ago it is no more.
                    self._looked.pop(template.uuid, None)
                    self.forks.fit(template, self._source(template))
                ref = self._adopted(host, error, deadline)
            self.machines.learn(host, ref, self.forks.verify(host, source, ref, deadline))
        else:
            origin, change = fork.origin(self.forks.lookup, template.image, template.title)
            cold = self.forks.source(origin, template.title)
            templates.refuse_changed(cold.machine, change, template)
            ref = self.forks.cold(host, cold, mode, deadline)
            self.machines.learn(host, ref)
            fork.power_on(self.forks.tasks, host, ref, deadline)

    def _source(self, template: TemplateRecord) -> Machine:
        """A template's machine as it is now, with its hardware, which does not change once it is
        frozen.
        """
        seen = self._looked.get(template.uuid)
        if seen and time.monotonic() - seen[0] < SHARED:
            return seen[1]
        machine = self.machines.need(template)
        known = self._hardware.get(template.uuid)
        if known is None or known[0] != machine.change or not machine.frozen:
            known = machine.change, self.machines.need(template, DEVICES).devices
            self._hardware[template.uuid] = known
        whole = replace(machine, devices=known[1])
        if whole.frozen and whole.power == "poweredOn":
            self._looked[template.uuid] = time.monotonic(), whole
        return whole

    def _adopted(self, host: HostRecord, error: StockyardError, deadline: Deadline) -> Any:
        """The machine of a fork whose answer was lost on the way, if vCenter made it nonetheless.

        Only of a host that is reserved still: one that has its machine for long is not made again.
        """
        if not fork.was_perhaps_made(error):
            raise error
        limit = deadline.within(ADOPTION if fork.was_lost(error) else 0.0)
        self.register.flush()
        while HOST + host.domain in self.register.read().values:
            found = self.machines.present(host)
            if found is not None and found.power == "poweredOn":
                return found.ref
            if limit.passed():
                break
            limit.pause(1.0)
        raise error
