# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The destinations of ``egress_allow``: addresses, networks and names, with ports. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput
from . import naming

# Private and shared networks, which egress open does not reach.
PRIVATE = tuple(
    map(
        ipaddress.IPv4Network,
        ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16"),
    )
)
# Networks that no declaration opens: this machine, link-local addresses with metadata services, the
# networks of the uplink itself, multicast and reserved addresses.
FORBIDDEN = tuple(
    map(
        ipaddress.IPv4Network,
        ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "198.18.0.0/15", "224.0.0.0/3"),
    )
)
# The largest number of entries, and of their characters together.
MAX, LENGTH_MAX = 256, 8192
_SHAPE = re.compile(r"(?P<target>[^:]+)(:(?P<port>[0-9]{1,5}))?")
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
# The last label contains a letter: an incomplete address is no name.
_NAME = re.compile(rf"(\*\.)?({_LABEL}\.)*(?=[0-9_-]*[a-z]){_LABEL}")
_NUMBERS = re.compile(r"[0-9./]+")


@dataclass(frozen=True)
class Destination:
    """A destination that a guest can reach.

    :param network: its addresses, as in ``192.0.2.0/24``; empty for a name.
    :param name: a domain name, in lower case; ``*.`` in front stands for all names below a domain.
    :param port: its port; 0 for each port of addresses, and for the ports 80 and 443 of a name.
    """

    network: str = ""
    name: str = ""
    port: int = 0


def destination(value: Any) -> Destination:
    """Check an entry of ``egress_allow``.

    :raises InvalidInput: if the value is no address, network or name.
    """
    # The lower case of some other letters is ASCII.
    is_text = isinstance(value, str) and value.isascii()
    match = _SHAPE.fullmatch(value) if is_text else None
    if not match:
        raise _invalid(value)
    port = int(match["port"] or 0)
    if match["port"] and not 1 <= port <= 65535:
        raise InvalidInput(
            f"egress_allow: {naming.shown(value)} has an invalid port.",
            remedy="set a port from 1 to 65535",
        )
    target = match["target"].lower()
    if _NUMBERS.fullmatch(target):
        return Destination(network=str(_network(target, value)), port=port)
    if len(target) > 253 or not _NAME.fullmatch(target):
        raise _invalid(value)
    return Destination(name=target, port=port)


def destinations(values: Iterable[Any]) -> tuple[Destination, ...]:
    """Return the checked entries of ``egress_allow``."""
    return tuple(destination(value) for value in values)


def check(egress: str, values: tuple[str, ...]) -> None:
    """Refuse entries that do not fit together with the egress.

    :raises InvalidInput: with the entry.
    """
    if len(values) > MAX:
        raise InvalidInput(
            f"egress_allow has {len(values)} entries.", remedy=f"declare at most {MAX} entries"
        )
    entries = destinations(values)
    if len(set(entries)) != len(entries):
        raise InvalidInput(
            "egress_allow: a destination is declared twice.",
            remedy="declare each destination once",
        )
    if sum(map(len, values)) > LENGTH_MAX:
        raise InvalidInput(
            f"egress_allow has more than {LENGTH_MAX} characters.",
            remedy="declare domains and networks instead of single names and addresses",
        )
    if egress == "allow":
        if not values:
            raise InvalidInput(
                "egress allow has no destinations.",
                remedy="declare egress_allow, or egress none",
            )
        return
    if values and egress != "open":
        raise InvalidInput(
            f"egress_allow does not apply to egress {egress}.",
            remedy="omit egress_allow, or declare egress open or allow",
        )
    for value, entry in zip(values, entries, strict=True):
        _check_private(value, entry)


def _check_private(value: str, entry: Destination) -> None:
    """Refuse an entry that egress ``open`` cannot add."""
    if entry.name:
        raise InvalidInput(
            f"egress_allow: egress open has no rules about names such as {naming.shown(value)}.",
            remedy="declare addresses or networks of private ranges, or egress allow",
        )
    network = ipaddress.IPv4Network(entry.network)
    if not any(network.subnet_of(private) for private in PRIVATE):
        raise InvalidInput(
            f"egress_allow: {naming.shown(value)} is not in a private range.",
            cause="egress open reaches all public addresses",
            remedy=f"omit it, or declare a network in {', '.join(map(str, PRIVATE))}",
        )


def _network(text: str, value: Any) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(text, strict=False)
        if str(network.network_address) != text.partition("/")[0]:
            raise InvalidInput(
                f"egress_allow: {naming.shown(value)} is not the start of a network.",
                remedy=f"write the network as {network}",
            )
    except ValueError as error:
        raise _invalid(value) from error
    for forbidden in FORBIDDEN:
        if network.overlaps(forbidden):
            raise InvalidInput(
                f"egress_allow: {naming.shown(value)} cannot be allowed.",
                cause=f"it contains addresses of {forbidden}, which no guest may reach",
                remedy="declare a smaller network",
            )
    return network


def _invalid(value: Any) -> InvalidInput:
    return InvalidInput(
        f"egress_allow: {naming.shown(value)} is no IPv4 address, network or domain name.",
        remedy="write an entry as 192.0.2.7, 192.0.2.0/24, registry.example.org or "
        "*.example.org, with :443 for one port; write names with other letters in their ASCII "
        "form (xn--)",
    )
