# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints: declaration."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import naming
from .endpoint_record import MOST_SPARES, EndpointRecord, check_places
from .host import DOCKER_PORT, HostSpec


@dataclass(frozen=True)
class EndpointSpec:
    """The declaration of an endpoint: a Docker API whose containers are virtual machines.

    :param name: the name of the endpoint, in its tenant.
    :param image_host: the host that holds its images.
    :param template: the template that the image host is forked from; if empty, the image host must
        exist already.
    :param socket: the path of a Unix socket; none if empty.
    :param address: the IP address for mutual TLS, at which ports of containers are published too;
        none if empty.
    :param port: the port at that address.
    :param spares: the number of machines that are forked before a container needs them.
    :param socket_in_containers: whether containers can bind ``/var/run/docker.sock``, which leads
        to the endpoint.
    :param host: the declaration of an image host that is forked from ``template``. It also applies
        to the machines of containers.
    """

    name: str = "endpoint"
    image_host: str = "images"
    template: str = ""
    tenant: str = "default"
    socket: str = ""
    address: str = ""
    port: int = DOCKER_PORT
    spares: int = 0
    socket_in_containers: bool = False
    host: HostSpec = field(default_factory=HostSpec)

    def __post_init__(self) -> None:
        naming.name("endpoint", self.name)
        naming.name("host", self.image_host)
        naming.name("tenant", self.tenant)
        if self.template:
            naming.name("template", self.template)
        naming.whole("spares", self.spares, 0, MOST_SPARES)
        check_places(self.name, self.socket, self.address, self.port)

    @property
    def record(self) -> EndpointRecord:
        """Return the endpoint as it is recorded."""
        return EndpointRecord(
            self.name,
            bool(self.template),
            self.socket,
            self.address,
            self.port,
            self.spares,
            self.socket_in_containers,
        )
