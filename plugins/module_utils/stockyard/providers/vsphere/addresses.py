# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses that hosts get: a range that the user sets apart on a network of his. Pure.

vSphere gives no addresses, and a host needs one before it is on the wire: its certificate names it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError

from ...errors import Conflict, InvalidInput
from ...model.naming import shown

DHCP = "dhcp"
USAGE = "write addresses=FIRST-LAST/PREFIX, as in addresses=192.0.2.10-192.0.2.99/24"


@dataclass(frozen=True)
class Range:
    """Addresses that are ours alone.

    :param gateway: the way out; empty for a network that has none.
    """

    first: IPv4Address
    last: IPv4Address
    network: IPv4Network
    gateway: str = ""

    @property
    def netmask(self) -> str:
        """As guests want it."""
        return str(self.network.netmask)

    def free(self, start: int, taken: Iterable[str]) -> str:
        """An address that nobody has.

        :param start: any number; says where the search begins, so that an address seldom comes back
            soon.
        :raises Conflict: when there is none.
        """
        used, size = set(taken), self._size
        for step in range(size):
            found = str(self.first + (start + step) % size)
            if found not in used and found != self.gateway:
                return found
        raise Conflict(
            f"all {size} of its places are taken.",
            name=f"range {self.first}-{self.last}",
            remedy="widen addresses",
        )

    def check_room(self, count: int, taken: Iterable[str]) -> None:
        """Refuse more hosts than there are addresses for.

        :raises Conflict: with the number of free addresses.
        """
        used = {int(IPv4Address(one)) for one in {*taken, *filter(None, [self.gateway])}}
        room = self._size - sum(1 for one in used if int(self.first) <= one <= int(self.last))
        if room < count:
            raise Conflict(
                f"{count} hosts need an address, and {room} are free.",
                name=f"range {self.first}-{self.last}",
                remedy="widen addresses, or delete hosts",
            )

    @property
    def _size(self) -> int:
        return int(self.last) - int(self.first) + 1


def read(text: str, gateway: str = "") -> Range:
    """``FIRST-LAST/PREFIX``.

    :raises InvalidInput: when it is anything else, or its parts do not fit together.
    """
    if text.strip().lower() == DHCP:
        raise InvalidInput(
            "addresses: hosts have no addresses of DHCP's.",
            cause="a host is off the wire until its address is in its certificate",
            remedy=USAGE,
        )
    span, slash, prefix = text.partition("/")
    first, dash, last = span.partition("-")
    try:
        if not (slash and dash):
            raise ValueError("it has no range or no prefix")
        low, high = IPv4Address(first), IPv4Address(last)
        found = Range(
            low,
            high,
            IPv4Network(f"{first}/{prefix}", strict=False),
            str(IPv4Address(gateway)) if gateway else "",
        )
        _fit(found)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise InvalidInput(
            f"addresses: {shown(text)} cannot be used.", cause=str(error), remedy=USAGE
        ) from error
    return found


def _fit(found: Range) -> None:
    inside = (found.first, found.last, *([IPv4Address(found.gateway)] if found.gateway else ()))
    if found.first > found.last:
        raise ValueError("the range ends before it begins")
    if any(address not in found.network for address in inside):
        raise ValueError(f"not all of it is in {found.network}")
    if (
        found.network.network_address >= found.first
        or found.network.broadcast_address <= found.last
    ):
        raise ValueError(f"it holds an address that {found.network} has for itself")
