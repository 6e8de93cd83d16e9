# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mark of a node: its owner, as the last part of the node's description.

A node's name contains a part of its host's uuid, so that no two hosts ever share a name. This
separates the history of a deleted host from that of the next host, and also the secrets of their
agents, which the controller computes from the name.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import InvalidInput
from ...model import codec, naming, untrusted
from ...model.host import HostRecord

PREFIX = "stockyard:"
UUID_PART = 8


@dataclass(frozen=True)
class Mark:
    """Owner of a node, and the host that it represents.

    :param place: the hypervisor of the host.
    """

    owner: str
    tenant: str
    fleet: str
    host: str
    uuid: str
    place: str = ""

    def __post_init__(self) -> None:
        for field, value in (
            ("owner", self.owner),
            ("tenant", self.tenant),
            ("fleet", self.fleet),
            ("host", self.host),
        ):
            naming.name(field, value)
        naming.identifier(self.uuid)
        naming.line("place", self.place)

    @property
    def node(self) -> str:
        """Return the name of the node."""
        return f"{self.host}-{self.uuid[:UUID_PART]}"

    @property
    def description(self) -> str:
        """Return the description of the node."""
        mark = f"{PREFIX}{codec.dumps(self)}"
        return f"Host {self.host} of fleet {self.fleet}. Do not change it here. {mark}"


def mark_of(record: HostRecord, place: str) -> Mark:
    """Return the mark for the node of a host."""
    return Mark(record.owner, record.tenant, record.fleet, record.name, record.uuid, place)


def read(name: str, description: str) -> Mark | None:
    """Return the mark of a node; ``None`` if it has none.

    :raises InvalidInput: if the mark is damaged or belongs to another node.
    """
    _before, prefix, text = description.partition(PREFIX)
    if not prefix:
        return None
    try:
        mark = codec.from_dict(Mark, untrusted.parse(text), "mark")
    except untrusted.MalformedData as error:
        raise InvalidInput("the mark of the node cannot be read.", cause=str(error)) from error
    if mark.node != name:
        raise InvalidInput(f"the mark belongs to node {mark.node}.")
    return mark
