# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mark that says whose a node is. It is the last thing in the node's description.

A node's name holds a part of its host's uuid, so no two hosts ever share one. That keeps the
history of a host that is gone apart from that of the next one, and the secret of its agent, which
the controller makes of the name, with it.
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
    """Whose a node is, and which host it stands for.

    :param place: the hypervisor that the host is on.
    """

    owner: str
    tenant: str
    fleet: str
    host: str
    uuid: str
    place: str = ""

    def __post_init__(self) -> None:
        for what, value in (
            ("owner", self.owner),
            ("tenant", self.tenant),
            ("fleet", self.fleet),
            ("host", self.host),
        ):
            naming.name(what, value)
        naming.identifier(self.uuid)
        naming.line("place", self.place)

    @property
    def node(self) -> str:
        """The name of the node."""
        return f"{self.host}-{self.uuid[:UUID_PART]}"

    @property
    def description(self) -> str:
        """What the node says of itself."""
        mark = f"{PREFIX}{codec.dumps(self)}"
        return f"Host {self.host} of fleet {self.fleet}. Do not change it here. {mark}"


def mark_of(record: HostRecord, place: str) -> Mark:
    """The mark that a host's node is to have."""
    return Mark(record.owner, record.tenant, record.fleet, record.name, record.uuid, place)


def read(name: str, description: str) -> Mark | None:
    """The mark of a node; ``None`` where it has none.

    :raises InvalidInput: when it has one that cannot be right: it is another node's, or damaged.
    """
    _before, found, text = description.partition(PREFIX)
    if not found:
        return None
    try:
        mark = codec.from_dict(Mark, untrusted.parse(text), "mark")
    except untrusted.MalformedData as error:
        raise InvalidInput("its mark cannot be read.", cause=str(error)) from error
    if mark.node != name:
        raise InvalidInput(f"its mark is that of node {mark.node}.")
    return mark
