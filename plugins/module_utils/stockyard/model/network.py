# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network rules of a host: its egress and its published ports. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ..errors import InvalidInput
from . import naming

EGRESSES = ("none", "proxy", "open", "allow")
# The values with which a host of this hypervisor has an uplink, unless it is in a network.
UPLINKED = ("open", "allow")
# The port of the proxy, at the guest's own address.
PROXY_PORT = 3128
EVERYWHERE = "0.0.0.0"  # noqa: S104  # what a user may ask for
_ENDPOINT = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?):([0-9]{1,5})")
# Names of vSphere's port groups can contain blanks and brackets.
_NETWORK = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.() -]{0,78}[A-Za-z0-9_.()-])?")

_RANGE = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")
# Below the ports from which the kernel chooses those of outgoing connections.
AUTO, AUTO_PORTS = "auto", range(20000, 30000)
FIRST_PORT, LAST_PORT = 1024, 65535
# The own addresses of hosts: each has SSH and Docker there, also while it is off.
OWN_ADDRESSES = ipaddress.IPv4Network("127.64.0.0/10")

Published = frozenset[tuple[str, int]]


@dataclass(frozen=True)
class Uplink:
    """The settings of a guest's second card, which leads out of the hypervisor.

    Each guest has a network to itself behind this card, so all guests have the same addresses.
    """

    address: str
    netmask: str
    gateway: str
    interface: str = "eth1"
    mac: str = "52:54:00:12:34:57"


@dataclass(frozen=True)
class GuestNetwork:
    """The network settings of a guest.

    :param gateway: empty for a guest without egress.
    :param nameserver: name server. For a guest without egress its own address: nothing listens
        there, so lookups are refused at once instead of timing out. Empty to keep the image's.
    :param uplink: the second card; ``None`` if the guest does not use it.
    """

    address: str
    netmask: str
    gateway: str = ""
    interface: str = "eth0"
    nameserver: str = ""
    uplink: Uplink | None = None


# Every guest has a QEMU user network to itself, and always this address in it.
USER_NETWORK = GuestNetwork("10.0.2.15", "255.255.255.0", nameserver="10.0.2.15")


@dataclass(frozen=True)
class PublishSpec:
    """An address of the hypervisor at which other machines reach hosts.

    :param address: an IPv4 address of the hypervisor.
    :param ports: the ports from which each host gets some, as ``20000-20999``; ``auto`` for
        20000-29999.
    """

    address: str
    ports: str = AUTO

    def __post_init__(self) -> None:
        naming.address(self.address)
        if self.address == EVERYWHERE:
            raise InvalidInput(
                f"publish: {EVERYWHERE} is not an address that other machines can connect to.",
                remedy="set one address of the hypervisor",
            )
        if ipaddress.IPv4Address(self.address) in OWN_ADDRESSES:
            raise InvalidInput(
                f"publish: {self.address} can be the own address of another host.",
                cause=f"hosts have addresses of {OWN_ADDRESSES}",
                remedy="set another address of the hypervisor",
            )
        self._first_and_last()

    @property
    def range(self) -> range:
        """Return the ports from which hosts get theirs."""
        first, last = self._first_and_last()
        return range(first, last + 1)

    def free_ports(
        self,
        count: int,
        used_bindings: Iterable[tuple[str, int]],
        is_free: Callable[[int], bool] = lambda _port: True,
    ) -> tuple[int, ...]:
        """Return the lowest ports of the range that are free, at most ``count``.

        :param used_bindings: the addresses and ports that hosts publish.
        :param is_free: returns whether no program listens on a port.
        """
        used_ports = {port for at, port in used_bindings if at in (self.address, EVERYWHERE)}
        free_ports = (port for port in self.range if port not in used_ports and is_free(port))
        return tuple(islice(free_ports, count))

    def _first_and_last(self) -> tuple[int, int]:
        if self.ports == AUTO:
            return AUTO_PORTS[0], AUTO_PORTS[-1]
        match = _RANGE.fullmatch(str(self.ports))
        first, last = (int(match[1]), int(match[2])) if match else (0, 0)
        if not FIRST_PORT <= first <= last <= LAST_PORT:
            raise InvalidInput(
                f"publish: {naming.shown(self.ports)} is not a range of ports from {FIRST_PORT} to "
                f"{LAST_PORT}.",
                remedy=f"write the range as 20000-20999, or {AUTO}",
            )
        return first, last


@dataclass(frozen=True)
class Publication:
    """The ports of the hypervisor at which other machines reach a host.

    :param address: the address of the hypervisor.
    :param ssh_port: the port of SSH.
    :param docker_port: the port of the Docker API.
    :param ports: the port for each declared port of the host, by the declared port.
    """

    address: str
    ssh_port: int
    docker_port: int
    ports: dict[str, int] = field(default_factory=dict)


def endpoint(value: Any) -> tuple[str, int]:
    """Check ``host:port``.

    :raises InvalidInput: if the value is anything else.
    """
    match = _ENDPOINT.fullmatch(value) if isinstance(value, str) else None
    if not match or not 1 <= int(match[3]) <= 65535:
        raise InvalidInput(
            f"{naming.shown(value)} is not host:port.",
            remedy="write the proxy as proxy.example.org:3128, without http://",
        )
    return match[1], int(match[3])


def network_name(value: Any) -> str:
    """Check the name of a libvirt network, or of a port group."""
    if not isinstance(value, str) or not _NETWORK.fullmatch(value):
        raise InvalidInput(
            f"network: {naming.shown(value)} is not the name of a network.",
            remedy="check the name with virsh net-list, or in vCenter",
        )
    return value


def bound(bind: str, ports: Iterable[int], reserved: Published) -> Published:
    """Return the bindings that a host must publish at an address that it shares with others,
    without the ones that are reserved for it.
    """
    bindings = ((bind, port) for port in ports) if bind else ()
    return frozenset(binding for binding in bindings if not clash(frozenset([binding]), reserved))


def clash(bindings: Published, used_bindings: Iterable[tuple[str, int]]) -> tuple[str, int] | None:
    """Return the first address and port of ``bindings`` that is used already: ``0.0.0.0`` uses a
    port at every address.
    """
    for address, port in sorted(bindings):
        for used_address, used_port in used_bindings:
            if port == used_port and (
                address == used_address or EVERYWHERE in (address, used_address)
            ):
                return address, port
    return None
