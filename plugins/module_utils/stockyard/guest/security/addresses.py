# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The address pools of Docker in a host.

They do not overlap networks that stockyard or libvirt assign to a host: 10.0.2.0/24 (QEMU's user
network), 192.168.122.0/24 (libvirt's default network), link-local addresses, loopback. Docker's own
defaults are 172.16.0.0/12 and 192.168.0.0/16.
"""

from __future__ import annotations

import ipaddress
from typing import TypeAlias

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"
# The base of each pool, and the prefix length of its networks. The default bridge uses the first
# pool, as it does by default.
POOLS = (("172.17.0.0/16", 16), ("172.18.0.0/16", 24), ("fd5a:7c1e:d0c8::/56", 64))
KEYS = {"default-address-pools": [{"base": base, "size": size} for base, size in POOLS]}


def meeting(network: Network) -> str:
    """Return the pool that overlaps a network, or an empty text if there is none."""
    pools = (ipaddress.ip_network(base) for base, _size in POOLS)
    return next(
        (str(pool) for pool in pools if pool.version == network.version and pool.overlaps(network)),
        "",
    )
