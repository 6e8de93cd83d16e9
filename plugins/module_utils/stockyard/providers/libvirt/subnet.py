# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of a libvirt network: read from its definition, and given out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from ...errors import Conflict, Unsupported
from .xml.element import Element, parse

# How many addresses of a large network are looked at: more than that many hosts no hypervisor has.
LOOKED_AT = 1 << 16


@dataclass(frozen=True)
class Subnet:
    """One IPv4 network.

    :param network: as in ``192.168.122.0/24``.
    :param gateway: the hypervisor's own address in it.
    :param forward: libvirt's forward mode; empty for an isolated network.
    :param reserved: addresses that libvirt keeps for machines that it names.
    :param ranges: first and last of each range that DHCP gives out of.
    """

    name: str
    network: str
    gateway: str
    forward: str = ""
    reserved: frozenset[str] = frozenset()
    ranges: tuple[tuple[str, str], ...] = ()

    def free(self, start: int, taken: Iterable[str], leased: Iterable[str]) -> str:
        """An address that nobody has: outside DHCP's ranges if there is one, else one that is not
        leased now.

        :param start: any number; says where the search begins, so that an address seldom comes back
            soon.
        :raises Conflict: when there is none.
        """
        candidates = self.unused(start, taken, leased)
        for address in (*(a for a in candidates if not self._dynamic(a)), *candidates):
            return str(address)
        raise Conflict(
            "every one of its hosts' places is taken.",
            name=f"network {self.name}",
            remedy="use a larger one",
        )

    def unused(self, start: int, taken: Iterable[str], leased: Iterable[str]) -> list[IPv4Address]:
        """Return the addresses that a new host can get, those after ``start`` first."""
        used = {self.gateway, *self.reserved, *taken, *leased}
        return [address for address in self._addresses(start) if str(address) not in used]

    def _addresses(self, start: int) -> Iterator[IPv4Address]:
        whole = IPv4Network(self.network)
        usable = whole.num_addresses - 2
        for step in range(min(usable, LOOKED_AT)):
            yield whole[1 + (start + step) % usable]

    def _dynamic(self, address: IPv4Address) -> bool:
        return any(
            IPv4Address(first) <= address <= IPv4Address(last) for first, last in self.ranges
        )


def read(text: str, name: str) -> Subnet:
    """A network's definition.

    :raises Unsupported: when libvirt knows no IPv4 addresses of it, as with a plain bridge.
    """
    root = parse(text)
    for ip in root.findall("./ip"):
        if ip.get("family", "ipv4") == "ipv4" and ip.get("address"):
            return _subnet(root, ip, name)
    raise Unsupported(
        "libvirt knows no IPv4 addresses of it.",
        name=f"network {name}",
        cause="it has no <ip> element",
        remedy="use a network with addresses of its own, of mode nat, route, open or isolated",
    )


def _subnet(root: Element, ip: Element, name: str) -> Subnet:
    forward = root.find("./forward")
    gateway = ip.get("address", "")
    mask = ip.get("prefix") or ip.get("netmask") or "24"
    return Subnet(
        name,
        network=str(IPv4Network(f"{gateway}/{mask}", strict=False)),
        gateway=gateway,
        forward="" if forward is None else forward.get("mode", "nat"),
        reserved=frozenset(h.get("ip", "") for h in ip.findall("./dhcp/host")),
        ranges=tuple((r.get("start", ""), r.get("end", "")) for r in ip.findall("./dhcp/range")),
    )
