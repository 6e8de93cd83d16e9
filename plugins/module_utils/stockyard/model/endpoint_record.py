# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of an endpoint, which is a part of the record of its image host."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidInput
from . import naming

# The longest path of a Unix socket on Linux, in bytes.
SOCKET_MAX = 107
MOST_SPARES = 100


@dataclass(frozen=True)
class EndpointRecord:
    """An endpoint on record: the image host is the host with this record.

    :param name: its name in its tenant.
    :param managed: whether the image host was created for the endpoint, and is deleted with it.
    :param socket: the absolute path of a Unix socket; none if empty.
    :param address: the IP address for mutual TLS; none if empty.
    :param port: the port at that address.
    :param spares: the number of machines that are forked before a container needs them.
    :param socket_in_containers: whether containers can bind the socket of the endpoint.
    """

    name: str
    managed: bool
    socket: str
    address: str
    port: int
    spares: int = 0
    socket_in_containers: bool = False

    def __post_init__(self) -> None:
        naming.name("endpoint", self.name)
        naming.whole("spares", self.spares, 0, MOST_SPARES)
        check_places(self.name, self.socket, self.address, self.port)
        if self.socket and not self.socket.startswith("/"):
            raise InvalidInput(
                f"socket: {naming.shown(self.socket)} is not an absolute path.",
                name=f"endpoint {self.name}",
                remedy="write the path from the root directory",
            )

    @property
    def places(self) -> tuple[str, ...]:
        """Return the values of ``DOCKER_HOST`` that lead to the endpoint."""
        return places(self.socket, self.address, self.port)


def places(socket: str, address: str, port: int) -> tuple[str, ...]:
    """Return the values of ``DOCKER_HOST`` for a Unix socket and for an address."""
    return (
        *((f"unix://{socket}",) if socket else ()),
        *((f"tcp://{address}:{port}",) if address else ()),
    )


def check_places(name: str, socket: str, address: str, port: int) -> None:
    """Check the socket and the address of an endpoint.

    :raises InvalidInput: if one of them is not valid, or if there is neither.
    """
    naming.line("socket", socket)
    if len(socket.encode()) > SOCKET_MAX:
        raise InvalidInput(
            f"socket: the path has {len(socket.encode())} bytes, and Linux permits {SOCKET_MAX}.",
            name=f"endpoint {name}",
            remedy="choose a shorter path",
        )
    naming.whole("port", port, 1, 65535)
    if address:
        naming.address(address)
    if not (socket or address):
        raise InvalidInput(
            "the endpoint is served nowhere.",
            name=f"endpoint {name}",
            remedy="name a Unix socket or an address",
        )
