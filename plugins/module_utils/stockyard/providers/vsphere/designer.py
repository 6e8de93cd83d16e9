# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a yard's machines are like on vSphere: the policy. The API's objects are built by
:mod:`.specs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import Unsupported
from ...model.host import HostRecord
from ...model.observation import Record
from ...model.template import TemplateRecord
from . import api, specs
from .guestinfo import IDLE
from .inventory import properties
from .lookup import Lookup
from .records import RECORD, SHOWN, to_value

# A clone's disk is a child of the source's, or a copy of its own without snapshots.
MOVES = {"linked": "createNewChildDiskBacking", "full": "moveAllDiskBackingsAndDisallowSharing"}


class Designer:
    """Puts together what vCenter is asked to make."""

    def __init__(self, lookup: Lookup) -> None:
        self.lookup = lookup
        self._backing: Any = None

    def values(self, record: Record) -> Mapping[str, str]:
        """What is written into a new machine: whose it is, and over all that its source had to say
        to its guest.
        """
        return {RECORD: to_value(record), **IDLE}

    def instant(self, host: HostRecord, devices: Iterable[Any]) -> Any:
        """A running fork, off the wire, under its own name, uuid and MAC."""
        pool = self.lookup.pool_of(host)
        where = specs.location(
            self.lookup.made_folder(), pool, self._store(), self.card(host, devices)
        )
        return specs.instant_clone(host.domain, host.uuid, where, self.values(host))

    def cold(self, record: Record, devices: Iterable[Any], mode: str, snapshot: Any) -> Any:
        """A copy that is off, with its card off the wire at the first start too."""
        pool = self.lookup.pool_of(record)
        where = specs.location(
            self.lookup.made_folder(),
            pool,
            self._store(),
            self.card(record, devices),
            move=MOVES[mode],
        )
        size = record.hardware if isinstance(record, TemplateRecord) else record.frozen
        return specs.cold_clone(
            where,
            specs.hardware(
                record.uuid, {**self.values(record), SHOWN: "TRUE"}, size.vcpus, size.memory_mib
            ),
            snapshot,
        )

    def card(self, record: Record, devices: Iterable[Any]) -> list[Any]:
        """The changes of a machine's network card.

        :raises Unsupported: when it has none or several: a host has one.
        """
        cards = specs.nics(devices)
        if len(cards) != 1:
            raise Unsupported(
                f"its machine has {len(cards)} network cards.",
                name=record.title,
                remedy="give the source just one",
            )
        return [specs.link(cards[0], False, mac=record.mac, backing=self._network())]

    def _store(self) -> Any:
        """The datastore when the user named one; else clones stay where their source is."""
        return self.lookup.datastore() if self.lookup.storage else None

    def _network(self) -> Any:
        name = self.lookup.place.network
        if name and self._backing is None:
            network = self.lookup.network(name)
            self._backing = specs.network_backing(network, self._describe(network, name))
        return self._backing

    def _describe(self, network: Any, name: str) -> dict[str, Any]:
        if not isinstance(network, api.vim().dvs.DistributedVirtualPortgroup):
            return {"name": name}
        session = self.lookup.session
        found = properties(session, network, ("key", "config.distributedVirtualSwitch"), name)
        switch = found["config.distributedVirtualSwitch"]
        return {"key": found["key"], "uuid": properties(session, switch, ("uuid",), name)["uuid"]}
