# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host may reach and where its ports answer: the rules, without any doing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput
from . import naming

EGRESSES = ("none", "proxy", "open")
# Where a guest finds its one way out, at its own address.
PROXY_PORT = 3128
EVERYWHERE = "0.0.0.0"  # noqa: S104  # what a user may ask for
_ENDPOINT = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?):([0-9]{1,5})")
# vSphere's port groups have blanks in their names, and brackets.
_NETWORK = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.() -]{0,78}[A-Za-z0-9_.()-])?")

Published = frozenset[tuple[str, int]]


@dataclass(frozen=True)
class GuestNetwork:
    """What a guest is told of its network.

    :param gateway: empty for a guest that has no way out.
    :param nameserver: server of names. The guest's own address if it has no way out: nothing
        listens there, so lookups are refused at once instead of timing out. Empty to keep the
        image's.
    """

    address: str
    netmask: str
    gateway: str = ""
    interface: str = "eth0"
    nameserver: str = ""


# Behind QEMU's user network every guest is alone, and its address inside is always this one.
USER_NETWORK = GuestNetwork("10.0.2.15", "255.255.255.0", nameserver="10.0.2.15")


def endpoint(value: Any) -> tuple[str, int]:
    """Check ``host:port``.

    :raises InvalidInput: when it is anything else.
    """
    found = _ENDPOINT.fullmatch(value) if isinstance(value, str) else None
    if not found or not 1 <= int(found[3]) <= 65535:
        raise InvalidInput(
            f"{naming.shown(value)} is not host:port.",
            remedy="write the proxy as proxy.example.org:3128, without http://",
        )
    return found[1], int(found[3])


def network_name(value: Any) -> str:
    """Check the name of a libvirt network, or of a port group."""
    if not isinstance(value, str) or not _NETWORK.fullmatch(value):
        raise InvalidInput(
            f"network: {naming.shown(value)} is not the name of a network.",
            remedy="see virsh net-list, or vCenter",
        )
    return value


def bound(bind: str, ports: Iterable[int], held: Published) -> Published:
    """What a host is to publish at an address that it shares with others, but for what is held for
    it.
    """
    wanted = ((bind, port) for port in ports) if bind else ()
    return frozenset(one for one in wanted if not clash(frozenset([one]), held))


def clash(wanted: Published, taken: Iterable[tuple[str, int]]) -> tuple[str, int] | None:
    """The first address and port of ``wanted`` that somebody has: ``0.0.0.0`` has a port at every
    address.
    """
    for address, port in sorted(wanted):
        for other, used in taken:
            if port == used and (address == other or EVERYWHERE in (address, other)):
                return address, port
    return None
