# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of a libvirt network: read from its definition, and assigned. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from ...errors import Conflict, Unsupported
from .xml.element import Element, parse

# Number of addresses of a large network that are examined: no hypervisor has more hosts.
LOOKED_AT = 1 << 16


@dataclass(frozen=True)
class Subnet:
    """One IPv4 network.

    :param network: as in ``192.168.122.0/24``.
    :param gateway: the hypervisor's own address in it.
    :param forward: libvirt's forward mode; empty for an isolated network.
    :param reserved: addresses that libvirt reserves for named machines.
    :param ranges: first and last address of each range of DHCP.
    """

    name: str
    network: str
    gateway: str
    forward: str = ""
    reserved: frozenset[str] = frozenset()
    ranges: tuple[tuple[str, str], ...] = ()

    def free(
        self, start: int, used_addresses: Iterable[str], leased_addresses: Iterable[str]
    ) -> str:
        """Return a free address: outside DHCP's ranges if possible, else an address that is not
        leased now.

        :param start: any number; determines the beginning of the search, so that an address is
            seldom used again soon.
        :raises Conflict: if no address is free.
        """
        candidates = self.unused(start, used_addresses, leased_addresses)
        for address in (
            *(candidate for candidate in candidates if not self._dynamic(candidate)),
            *candidates,
        ):
            return str(address)
        raise Conflict(
            "every one of its hosts' places is taken.",
            name=f"network {self.name}",
            remedy="use a larger network",
        )

    def unused(
        self, start: int, used_addresses: Iterable[str], leased_addresses: Iterable[str]
    ) -> list[IPv4Address]:
        """Return the addresses that a new host can get, those after ``start`` first."""
        excluded = {self.gateway, *self.reserved, *used_addresses, *leased_addresses}
        return [address for address in self._addresses(start) if str(address) not in excluded]

    def _addresses(self, start: int) -> Iterator[IPv4Address]:
        network = IPv4Network(self.network)
        address_count = network.num_addresses - 2
        for offset in range(min(address_count, LOOKED_AT)):
            yield network[1 + (start + offset) % address_count]

    def _dynamic(self, address: IPv4Address) -> bool:
        return any(
            IPv4Address(first) <= address <= IPv4Address(last) for first, last in self.ranges
        )


def read(text: str, name: str) -> Subnet:
    """Return the subnet of a network's definition.

    :raises Unsupported: if libvirt has no IPv4 addresses for it, as for a plain bridge.
    """
    root = parse(text)
    for ip_element in root.findall("./ip"):
        if ip_element.get("family", "ipv4") == "ipv4" and ip_element.get("address"):
            return _subnet(root, ip_element, name)
    raise Unsupported(
        "libvirt assigns no IPv4 addresses in the network.",
        name=f"network {name}",
        cause="the network has no <ip> element",
        remedy="use a network with an address range, of mode nat, route, open or isolated",
    )


def _subnet(root: Element, ip_element: Element, name: str) -> Subnet:
    forward = root.find("./forward")
    gateway = ip_element.get("address", "")
    mask = ip_element.get("prefix") or ip_element.get("netmask") or "24"
    return Subnet(
        name,
        network=str(IPv4Network(f"{gateway}/{mask}", strict=False)),
        gateway=gateway,
        forward="" if forward is None else forward.get("mode", "nat"),
        reserved=frozenset(host.get("ip", "") for host in ip_element.findall("./dhcp/host")),
        ranges=tuple(
            (dhcp_range.get("start", ""), dhcp_range.get("end", ""))
            for dhcp_range in ip_element.findall("./dhcp/range")
        ),
    )
