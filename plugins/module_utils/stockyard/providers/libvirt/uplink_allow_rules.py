# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules about a guest's packets for ``egress: allow``. Pure.

Packets to declared addresses pass. Connections to the ports 80 and 443 of all other addresses go to
HAProxy in the namespace, which decides by name (:mod:`.uplink_proxy`). The name server in the
namespace adds the addresses of names with other ports for a time (:mod:`.uplink_names`).
Everything else is refused and counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...model.destinations import Destination
from . import uplink_rules
from .uplink_proxy import HTTP, LISTENERS, TLS

NAMED, REFUSED = "named", "refused"
# The largest number of addresses of names, and of counted destinations.
NAMED_MAX, REFUSED_MAX = 4096, 128
_RULES = """\
table {table} {{
  set denied {{
    type ipv4_addr; flags interval
    elements = {{ {denied} }}
  }}
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
  # Addresses of names that are declared with a port.
  set named {{
    type ipv4_addr . inet_service; flags timeout; size {named_max}
  }}
  set refused {{
    type ipv4_addr . inet_proto . inet_service; flags dynamic; size {refused_max}
  }}
  chain web {{
    type nat hook prerouting priority -100; policy accept;
    iifname != "{guest}" accept
    ip daddr @own accept
    ip daddr @allowed accept
    ip daddr . th dport @allowed_ports accept
    tcp dport {http_port} redirect to :{http_listener}
    tcp dport {tls_port} redirect to :{tls_listener}
  }}
  # The guest reaches the name server, and HAProxy by a redirected connection only.
  chain input {{
    type filter hook input priority 0; policy drop;
    iifname "lo" accept
    iifname "{exit}" ct state established accept
    iifname != "{guest}" drop
    ip saddr != {address} drop
    ct state invalid drop
    ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport 53 accept
    ct status dnat tcp dport {{ {http_listener}, {tls_listener} }} accept
    jump refuse
  }}
  # Connections of HAProxy and questions of the name server.
  chain output {{
    type filter hook output priority 0; policy drop;
    oifname {{ "lo", "{guest}" }} accept
    oifname != "{exit}" drop
    meta nfproto ipv6 drop
    ip daddr {dns} meta l4proto {{ tcp, udp }} th dport 53 accept
    ip daddr @own reject with icmp type admin-prohibited
    tcp dport != {{ {http_port}, {tls_port} }} drop
    ip daddr @allowed tcp dport {{ {http_port}, {tls_port} }} accept
    ip daddr . tcp dport @allowed_ports accept
    ip daddr @denied reject with icmp type admin-prohibited
    meta l4proto tcp accept
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    meta nfproto ipv6 drop
    iifname "{exit}" oifname "{guest}" ct state established,related accept
    iifname != "{guest}" drop
    oifname != "{exit}" drop
    ip saddr != {address} drop
    ct state invalid drop
    ip daddr @own jump refuse
    ip daddr @allowed meta l4proto {{ tcp, udp }} accept
    ip daddr @allowed icmp type echo-request accept
    ip daddr . th dport @allowed_ports meta l4proto {{ tcp, udp }} accept
    ip daddr @denied jump refuse
    ip daddr . tcp dport @named accept
    # A connection may outlive the time for which its address is valid.
    meta l4proto tcp ct state established accept
    jump refuse
  }}
  chain refuse {{
    meta l4proto {{ tcp, udp }} update @refused {{ ip daddr . meta l4proto . th dport counter }}
    meta l4proto icmp update @refused {{ ip daddr . meta l4proto . 0 counter }}
    reject with icmp type admin-prohibited
  }}
  chain source {{
    type nat hook postrouting priority 100; policy accept;
    oifname "{exit}" masquerade
  }}
}}
"""


def rules(entries: Sequence[Destination]) -> str:
    """Return the rules in the format of nft."""
    return _RULES.format(
        table=uplink_rules.TABLE,
        denied=", ".join(uplink_rules.DENIED),
        **uplink_rules.allowed_elements(entries),
        named_max=NAMED_MAX,
        refused_max=REFUSED_MAX,
        guest=uplink_rules.GUEST_DEVICE,
        exit=uplink_rules.EXIT_DEVICE,
        address=uplink_rules.ADDRESS,
        gateway=uplink_rules.GATEWAY,
        dns=uplink_rules.DNS,
        http_port=HTTP,
        tls_port=TLS,
        http_listener=LISTENERS[HTTP],
        tls_listener=LISTENERS[TLS],
    )
