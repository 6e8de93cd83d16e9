# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranges of IPv4 addresses for hosts. Pure.

vSphere assigns no addresses, and a host needs an address before its network link is up, because its
certificate contains the address. The user therefore reserves a range of addresses on one of the
user's networks.
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
    """A range of addresses that only stockyard assigns.

    :param gateway: address of the gateway; empty if the network has no gateway.
    """

    first: IPv4Address
    last: IPv4Address
    network: IPv4Network
    gateway: str = ""

    @property
    def netmask(self) -> str:
        """Return the netmask in dotted form, as guests need it."""
        return str(self.network.netmask)

    def free(self, start: int, assigned_addresses: Iterable[str]) -> str:
        """Return an address that no host has.

        :param start: any number; sets the start of the search, so that an address is seldom reused
            soon.
        :param assigned_addresses: the addresses that hosts have.
        :raises Conflict: if no address is free.
        """
        used_addresses, size = set(assigned_addresses), self._size
        for step in range(size):
            address = str(self.first + (start + step) % size)
            if address not in used_addresses and address != self.gateway:
                return address
        raise Conflict(
            f"all {size} addresses of the range are in use.",
            name=f"range {self.first}-{self.last}",
            remedy="widen addresses",
        )

    def check_room(self, count: int, assigned_addresses: Iterable[str]) -> None:
        """Check that the range has enough free addresses for a number of new hosts.

        :param assigned_addresses: the addresses that hosts have.
        :raises Conflict: with the number of free addresses, if that is too small.
        """
        used_numbers = {
            int(IPv4Address(address))
            for address in {*assigned_addresses, *filter(None, [self.gateway])}
        }
        free_count = self._size - sum(
            1 for address in used_numbers if int(self.first) <= address <= int(self.last)
        )
        if free_count < count:
            raise Conflict(
                f"{count} hosts need an address, and {free_count} addresses are free.",
                name=f"range {self.first}-{self.last}",
                remedy="widen addresses, or delete hosts",
            )

    @property
    def _size(self) -> int:
        return int(self.last) - int(self.first) + 1


def read(text: str, gateway: str = "") -> Range:
    """Parse ``FIRST-LAST/PREFIX``.

    :raises InvalidInput: if the text has another form, or its parts do not fit together.
    """
    if text.strip().lower() == DHCP:
        raise InvalidInput(
            "addresses: hosts cannot have addresses from DHCP.",
            cause="a host has no link until its certificate contains its address",
            remedy=USAGE,
        )
    span, slash, prefix = text.partition("/")
    first, dash, last = span.partition("-")
    try:
        if not (slash and dash):
            raise ValueError("the range or the prefix is missing")
        low, high = IPv4Address(first), IPv4Address(last)
        address_range = Range(
            low,
            high,
            IPv4Network(f"{first}/{prefix}", strict=False),
            str(IPv4Address(gateway)) if gateway else "",
        )
        _fit(address_range)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise InvalidInput(
            f"addresses: {shown(text)} cannot be used.", cause=str(error), remedy=USAGE
        ) from error
    return address_range


def _fit(address_range: Range) -> None:
    addresses = (
        address_range.first,
        address_range.last,
        *([IPv4Address(address_range.gateway)] if address_range.gateway else ()),
    )
    if address_range.first > address_range.last:
        raise ValueError("the range ends before it begins")
    if any(address not in address_range.network for address in addresses):
        raise ValueError(f"the range is not completely inside {address_range.network}")
    if (
        address_range.network.network_address >= address_range.first
        or address_range.network.broadcast_address <= address_range.last
    ):
        raise ValueError(f"the range contains a reserved address of {address_range.network}")
