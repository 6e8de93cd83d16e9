# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard endpoint``: lists endpoints, and serves a Docker API whose containers are
virtual machines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..endpoint.serve import serve
from ..errors import InvalidInput, NotFound
from ..model.endpoint import EndpointSpec
from ..model.host import DOCKER_PORT
from . import say
from .command import JSON, TENANT, Command, Group, Option, Options

if TYPE_CHECKING:
    from ..model.endpoint_info import EndpointInfo
    from ..yard import Yard

# The image host if no option names one.
IMAGE_HOST = "images"
HEADINGS = ("NAME", "STATE", "IMAGE HOST", "MACHINES", "DOCKER HOST")


def _list(yard: Yard, options: Options) -> int:
    return say.listing(options, yard.endpoints.list(options.tenant or None), HEADINGS, _row)


def _row(endpoint: EndpointInfo) -> tuple[str, ...]:
    return (
        endpoint.name,
        endpoint.state,
        endpoint.image_host,
        str(len(endpoint.machines)),
        " ".join(endpoint.docker_hosts),
    )


def _serve(yard: Yard, options: Options) -> int:
    spec = _spec(options) if options.unix or options.tls else _declared(yard, options)
    serve(yard, spec)
    return 0


def _declared(yard: Yard, options: Options) -> EndpointSpec:
    """Return an endpoint as it is on record.

    :raises InvalidInput: if other options describe an endpoint.
    :raises NotFound: if it is not on record.
    """
    described_options = {
        "--image-host": options.image_host,
        "--spares": options.spares,
        "--socket-in-containers": options.socket_in_containers,
    }
    for option, value in described_options.items():
        if value:
            raise InvalidInput(
                f"{option} is part of the declaration of endpoint {options.name}.",
                remedy=f"omit {option}, or set --unix or --tls to serve an undeclared endpoint",
            )
    try:
        endpoint = yard.endpoints.get(options.name, options.tenant)
    except NotFound as error:
        error.remedy = "declare the endpoint, or set --unix or --tls"
        raise
    return EndpointSpec(
        endpoint.name,
        endpoint.image_host,
        tenant=endpoint.tenant,
        socket=endpoint.socket,
        address=endpoint.address,
        port=endpoint.port,
        spares=endpoint.spares,
        socket_in_containers=endpoint.socket_in_containers,
    )


def _spec(options: Options) -> EndpointSpec:
    """Return the endpoint that the options describe."""
    address, _colon, port = options.tls.partition(":")
    if port and not port.isdecimal():
        raise InvalidInput(f"--tls: {port} is not a port.", remedy="write ADDRESS:PORT")
    return EndpointSpec(
        options.name,
        options.image_host or IMAGE_HOST,
        tenant=options.tenant,
        socket=options.unix,
        address=address,
        port=int(port or DOCKER_PORT),
        spares=options.spares,
        socket_in_containers=options.socket_in_containers,
    )


ENDPOINT = Group(
    "endpoint",
    "serve a Docker API whose containers are virtual machines",
    (
        Command("ls", "list endpoints", _list, (Option("--tenant", "only this tenant"), JSON)),
        Command(
            "serve",
            "serve until SIGTERM; without --unix and --tls, as the endpoint is declared",
            _serve,
            (
                Option("--unix", "serve a Unix socket, for this user only", metavar="PATH"),
                Option(
                    "--tls",
                    f"serve mutual TLS with the tenant's authority (default port: {DOCKER_PORT})",
                    metavar="ADDRESS[:PORT]",
                ),
                Option("--name", "name of the endpoint", "endpoint"),
                Option(
                    "--image-host",
                    "with --unix or --tls: the running host with the images, by default "
                    f"{IMAGE_HOST}",
                    metavar="HOST",
                ),
                TENANT,
                Option(
                    "--spares",
                    "with --unix or --tls: machines that are forked before a container needs them",
                    0,
                    metavar="NUMBER",
                    kind=int,
                ),
                Option(
                    "--socket-in-containers",
                    "with --unix or --tls: let containers bind /var/run/docker.sock, which leads "
                    "to the endpoint",
                    flag=True,
                ),
            ),
        ),
    ),
)
