# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collisions between networks of a host and networks from which Docker takes addresses."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator

from ..guest.security import daemon
from ..guest.security.addresses import Network
from .machine import Machine

DOCKERS = ("docker", "br-", "veth")


def collisions(machine: Machine) -> list[str]:
    """Return each network of the host that overlaps a pool or a network of Docker."""
    routes = list(_routes(machine))
    bridges = [network for interface, network in routes if interface.startswith(DOCKERS)]
    docker_networks = [*_pools(machine), *bridges]
    host_networks = {
        (name, network)
        for name, network in routes
        if not name.startswith(DOCKERS) and network.prefixlen
    }
    return sorted(
        f"{name} {network}" for name, network in host_networks if _meets(network, docker_networks)
    )


def _meets(network: Network, networks: Iterable[Network]) -> bool:
    return any(
        candidate.version == network.version and candidate.overlaps(network)
        for candidate in networks
    )


def _pools(machine: Machine) -> list[Network]:
    """Return the pools of ``daemon.json``. Docker's default pools avoid all networks of the
    host.
    """
    try:
        pools = json.loads(machine.read(daemon.PATH) or "{}").get("default-address-pools") or []
        return [ipaddress.ip_network(pool["base"], strict=False) for pool in pools]
    except (ValueError, AttributeError, TypeError, KeyError):
        return []


def _routes(machine: Machine) -> Iterator[tuple[str, Network]]:
    """Yield the interface and the network of each route, without those that the kernel creates for
    each interface: loopback, link-local and multicast of IPv6.
    """
    for line in (machine.read("/proc/net/route") or "").splitlines()[1:]:
        name, destination, mask = (line.split()[field] for field in (0, 1, 7))
        address, bits = (
            int.from_bytes(bytes.fromhex(word), "little") for word in (destination, mask)
        )
        yield name, ipaddress.IPv4Network((address, bits.bit_count()))
    for line in (machine.read("/proc/net/ipv6_route") or "").splitlines():
        fields = line.split()
        network = ipaddress.IPv6Network((int(fields[0], 16), int(fields[1], 16)))
        if fields[-1] != "lo" and not (network.is_link_local or network.is_multicast):
            yield fields[-1], network
