# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH access to a running template for a limited time.

The template gets a free address of the yard's range, and its network card is connected until the
end. If the controller dies, the address stays reserved until the template is deleted.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

from ...clock import Deadline
from ...errors import Conflict, GuestError, StockyardError, Unsupported
from ...model.network import GuestNetwork
from ...model.template import TemplateRecord
from . import reservations
from .addresses import Range
from .machine_cache import Reading
from .machines import PATIENCE, Machines
from .place import Place
from .register import Register, Values

PORT = 22
# Seconds until a connected template must answer.
ANSWER = 60.0
POLL = 0.5


class TemplateSsh:
    """The SSH access to templates of one yard's folder."""

    def __init__(
        self, place: Place, machines: Machines, register: Register, reading: Reading
    ) -> None:
        self.place = place
        self.machines = machines
        self.register = register
        self.reading = reading

    def check(self, title: str) -> None:
        """Check that templates can be reached.

        :raises Unsupported: if the yard has no addresses.
        """
        if self.place.endpoints:
            self._range(title)

    def network(self, record: TemplateRecord) -> GuestNetwork:
        """Return the network settings for the guest of a template, with a reserved address.

        :raises Conflict: if all addresses are in use.
        """
        address_range = self._range(record.title)

        def edit(values: Values) -> None:
            if not reservations.address_of(values, record):
                used_addresses = reservations.addresses(values, self.reading.known)
                address = address_range.free(UUID(record.uuid).int, used_addresses)
                reservations.reserve_address(values, record, address)

        self.reading.twice(
            Conflict, lambda: self.register.change(self.reading.stamped(edit, refresh=True))
        )
        # Without a gateway, the template reaches no other network.
        return GuestNetwork(
            self._address(record), address_range.netmask, interface=self.place.interface
        )

    @contextmanager
    def reach(self, record: TemplateRecord, deadline: Deadline) -> Iterator[tuple[str, int]]:
        """Connect the template for the length of the block; yield address and port of its SSH.

        :raises GuestError: if SSH does not answer.
        """
        address = self._address(record)
        try:
            # A template that is started again is not connected.
            machine = self.machines.get(record)
            self.machines.connect(machine, record, True, deadline, at_start=False)
            _wait_for_ssh(address, record.title, deadline)
            yield address, PORT
        except BaseException:
            with suppress(StockyardError):
                self._disconnect(record)
            raise
        self._disconnect(record)

    def prune(self) -> None:
        """Delete the reserved addresses of templates that no longer exist."""
        if any(key.startswith(reservations.ADDRESS) for key in self.register.read().values):
            # A machine that was deleted in vCenter leaves no trace in the register.
            self.reading.known.stamp = None
            self.register.change(
                self.reading.stamped(
                    lambda values: reservations.prune_addresses(values, self.reading.known),
                    refresh=True,
                )
            )

    def _disconnect(self, record: TemplateRecord) -> None:
        self.machines.connect(self.machines.get(record), record, False, Deadline(PATIENCE))
        self.register.change(lambda values: reservations.release_address(values, record))

    def _address(self, record: TemplateRecord) -> str:
        return reservations.address_of(self.register.read().values, record)

    def _range(self, title: str) -> Range:
        if self.place.addresses is None:
            raise Unsupported(
                "the template needs an address, and vSphere does not assign any.",
                name=title,
                cause="packages and files of a derived template are sent by SSH",
                remedy="reserve a range in the hypervisor's URI, as in "
                "?addresses=192.0.2.10-192.0.2.99/24",
            )
        return self.place.addresses


def _wait_for_ssh(address: str, title: str, deadline: Deadline) -> None:
    limit = deadline.within(ANSWER)
    while True:
        try:
            socket.create_connection((address, PORT), timeout=max(limit.left(), 0.1)).close()
        except OSError as error:
            if limit.passed():
                raise GuestError(
                    f"the template does not answer at {address}, port {PORT}.",
                    name=title,
                    cause=str(error),
                    remedy="run stockyard on a machine that reaches the network of the hosts",
                ) from error
            limit.pause(POLL)
        else:
            return
