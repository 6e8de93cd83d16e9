# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy for a yard's machines on vSphere. :mod:`.specs` builds the API's objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import Unsupported
from ...model.observation import Record
from ...model.template import TemplateRecord
from . import api, specs
from .guestinfo import IDLE
from .inventory import properties
from .lookup import Lookup
from .records import RECORD, SHOWN, to_value

# The disk of a linked clone is a child of the source's; a full clone has a copy without snapshots.
MOVES = {"linked": "createNewChildDiskBacking", "full": "moveAllDiskBackingsAndDisallowSharing"}


class Designer:
    """The specifications of the machines that vCenter must create."""

    def __init__(self, lookup: Lookup) -> None:
        self.lookup = lookup
        self._backing: Any = None

    def values(self, record: Record) -> Mapping[str, str]:
        """Return the values for a new machine: its record, and idle values over old messages."""
        return {RECORD: to_value(record), **IDLE}

    def instant(self, record: Record, devices: Iterable[Any]) -> Any:
        """Return the specification of a running fork: link down, own name, UUID and MAC."""
        pool = self.lookup.pool_of(record)
        relocate_spec = specs.location(
            self.lookup.made_folder(), pool, self._store(), self.card(record, devices)
        )
        return specs.instant_clone(record.domain, record.uuid, relocate_spec, self.values(record))

    def cold(self, record: Record, devices: Iterable[Any], mode: str, snapshot: Any) -> Any:
        """Return the specification of a clone that is off and starts with its link down."""
        pool = self.lookup.pool_of(record)
        relocate_spec = specs.location(
            self.lookup.made_folder(),
            pool,
            self._store(),
            self.card(record, devices),
            move=MOVES[mode],
        )
        size = record.hardware if isinstance(record, TemplateRecord) else record.template_size
        return specs.cold_clone(
            relocate_spec,
            specs.hardware(
                record.uuid, {**self.values(record), SHOWN: "TRUE"}, size.vcpus, size.memory_mib
            ),
            snapshot,
        )

    def card(self, record: Record, devices: Iterable[Any]) -> list[Any]:
        """Return the changes of a machine's network card.

        :raises Unsupported: if the machine does not have exactly one network card: a host has one.
        """
        cards = specs.nics(devices)
        if len(cards) != 1:
            raise Unsupported(
                f"the machine has {len(cards)} network cards.",
                name=record.title,
                remedy="configure exactly one network card in the source",
            )
        return [specs.link(cards[0], False, mac=record.mac, backing=self._network())]

    def _store(self) -> Any:
        """Return the datastore if the user named one; clones stay on their source's otherwise."""
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
        port_group = properties(session, network, ("key", "config.distributedVirtualSwitch"), name)
        switch = port_group["config.distributedVirtualSwitch"]
        return {
            "key": port_group["key"],
            "uuid": properties(session, switch, ("uuid",), name)["uuid"],
        }
