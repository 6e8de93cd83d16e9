# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The declaration of a daemon."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from ..errors import InvalidInput
from . import naming

PORT = 2380


@dataclass(frozen=True)
class ServiceSpec:
    """A daemon of a yard.

    :param socket: the path of its Unix socket, for this user only; none if empty.
    :param address: a loopback address to serve; none if empty.
    :param port: the port at this address.
    :param tokens: the file of the projects that can lease hosts; no project can if empty.
    :param interval: the longest time between two passes over the yard, in seconds.
    :param reap_interval: seconds between two searches for orphaned objects.
    :param grace: seconds that the creation of an object can take before the object counts as
        orphaned.
    """

    socket: str = ""
    address: str = ""
    port: int = PORT
    tokens: str = ""
    interval: float = 10.0
    reap_interval: float = 300.0
    grace: float = 3600.0

    def __post_init__(self) -> None:
        naming.whole("port", self.port, 1, 65535)
        for name in ("interval", "reap_interval"):
            if not 1 <= getattr(self, name) <= 86400:
                raise InvalidInput(
                    f"{name}: {getattr(self, name):g} s is not between 1 s and one day.",
                    remedy="write a duration such as 10s",
                )
        if self.address and not _is_loopback(self.address):
            raise InvalidInput(
                f"{self.address!a} is not a loopback address.",
                remedy="use 127.0.0.1 or ::1, and SSH or a proxy with TLS for other machines",
            )
        if self.tokens and not (self.socket or self.address):
            raise InvalidInput(
                "projects have no place to send requests to.",
                remedy="set a socket or an address too",
            )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
