# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of a host's uplink, and the rules about the packets that leave the guest. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from ...model.destinations import Destination
from ...model.network import Uplink

# The guest's packets pass two networks in the namespace: from the guest to the gateway, and from
# the namespace to slirp4netns. Both are in a range for benchmarks (RFC 2544), which no host on the
# internet has and which the rules deny.
GUEST, EXIT = ipaddress.IPv4Network("198.18.0.0/24"), ipaddress.IPv4Network("198.18.1.0/24")
GATEWAY, ADDRESS = str(GUEST[1]), str(GUEST[15])
# The same for each uplink: a guest remembers it, and must reach its next uplink at once.
GATEWAY_MAC = "52:54:00:12:34:56"
# slirp4netns passes DNS requests for this address to the hypervisor's name server.
DNS = str(EXIT[3])
# The tap device of the guest, and the one of slirp4netns.
GUEST_DEVICE, EXIT_DEVICE = "guest", "exit"
TABLE = "inet stockyard"
UPLINK = Uplink(ADDRESS, str(GUEST.netmask), GATEWAY)
# Networks of which no address is public (IANA's registry of special-purpose addresses), and the
# public address at which Azure gives a virtual machine its settings.
DENIED = (
    "168.63.129.16/32",
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    # Multicast, reserved addresses and broadcast.
    "224.0.0.0/3",
)
_RULES = """\
table {table} {{
  set denied {{
    type ipv4_addr; flags interval
    elements = {{ {denied} }}
  }}
  # Private destinations that the declaration adds.
  set allowed {{
    type ipv4_addr; flags interval
    {allowed}
  }}
  set allowed_ports {{
    type ipv4_addr . inet_service; flags interval
    {allowed_ports}
  }}
  # The hypervisor's own addresses.
  set own {{
    type ipv4_addr; flags interval
  }}
  chain names {{
    type nat hook prerouting priority -100; policy accept;
    iifname "{guest}" ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {dns}
  }}
  # The namespace itself has no services, and answers only with errors.
  chain input {{
    type filter hook input priority 0; policy drop;
  }}
  chain output {{
    type filter hook output priority 0; policy drop;
    oifname "{guest}" accept
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    meta nfproto ipv6 drop
    iifname "{exit}" oifname "{guest}" ct state established,related accept
    iifname != "{guest}" drop
    oifname != "{exit}" drop
    ip saddr != {address} drop
    ct state invalid drop
    ip daddr {dns} meta l4proto {{ tcp, udp }} th dport 53 accept
    ip daddr @own reject with icmp type admin-prohibited
    ip daddr . th dport @allowed_ports meta l4proto {{ tcp, udp }} accept
    ip daddr != @allowed ip daddr @denied reject with icmp type admin-prohibited
    meta l4proto {{ tcp, udp }} accept
    icmp type echo-request accept
  }}
  chain source {{
    type nat hook postrouting priority 100; policy accept;
    oifname "{exit}" masquerade
  }}
}}
"""


def rules(allowed: Sequence[Destination] = (), denied: Sequence[str] = DENIED) -> str:
    """Return the rules in the format of nft.

    :param allowed: the destinations that are reachable besides public ones.
    """
    return _RULES.format(
        table=TABLE,
        denied=", ".join(denied),
        **allowed_elements(allowed),
        guest=GUEST_DEVICE,
        exit=EXIT_DEVICE,
        gateway=GATEWAY,
        address=ADDRESS,
        dns=DNS,
    )


def allowed_elements(entries: Sequence[Destination]) -> dict[str, str]:
    """Return the elements of the two sets of allowed addresses: with and without ports."""
    return {
        "allowed": _elements(_networks(entries, 0)),
        "allowed_ports": _elements(
            f"{network} . {port}"
            for port in sorted({entry.port for entry in entries} - {0})
            for network in _networks(entries, port)
        ),
    }


def _networks(entries: Iterable[Destination], port: int) -> list[ipaddress.IPv4Network]:
    """Return the networks that are allowed for a port, without overlaps: nft refuses these."""
    networks = (
        ipaddress.IPv4Network(entry.network)
        for entry in entries
        if entry.network and entry.port == port
    )
    return list(ipaddress.collapse_addresses(networks))


def _elements(values: Iterable[object]) -> str:
    text = ", ".join(map(str, values))
    return f"elements = {{ {text} }}" if text else ""
