# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public facts of an endpoint."""

from __future__ import annotations

from dataclasses import dataclass

from .info import Info


@dataclass(frozen=True)
class EndpointMachine:
    """A machine of an endpoint.

    :param name: the name of the machine, which is a host of the yard.
    :param container: the name of the container that the machine was created for. Empty for a
        spare.
    :param state: the state of the machine: ``running``, ``paused``, ``suspended``, ``off`` or
        ``crashed``.
    """

    name: str
    container: str
    state: str


@dataclass(frozen=True, kw_only=True)
class EndpointInfo(Info):
    """An endpoint.

    :param name: the endpoint's name.
    :param tenant: the tenant that the endpoint belongs to.
    :param owner: the owner of the yard.
    :param image_host: the host that holds the images of the endpoint.
    :param managed: whether the image host was created for the endpoint, and is deleted with it.
    :param template: the template that the image host was forked from.
    :param state: the state of the image host: ``running``, ``paused``, ``suspended``, ``off`` or
        ``crashed``. The endpoint can be served if it is ``running``.
    :param socket: the path of the Unix socket. Empty if there is none.
    :param address: the address for mutual TLS. Empty if there is none.
    :param port: the port at that address.
    :param spares: the number of machines that are forked before a container needs them.
    :param socket_in_containers: whether containers can bind C(/var/run/docker.sock), which leads to
        the endpoint.
    :param docker_hosts: the values of ``DOCKER_HOST`` for Docker clients, that of the Unix socket
        first.
    :param export: a line for a POSIX shell that connects Docker clients to the first of them.
    :param machines: the machines of containers, by name.
    """

    name: str
    tenant: str
    owner: str
    image_host: str
    managed: bool
    template: str
    state: str
    socket: str
    address: str
    port: int
    spares: int
    socket_in_containers: bool
    docker_hosts: tuple[str, ...]
    export: str
    machines: tuple[EndpointMachine, ...]
