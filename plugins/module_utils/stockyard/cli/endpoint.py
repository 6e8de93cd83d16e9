# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard endpoint``: serves a Docker API whose containers are virtual machines."""

from __future__ import annotations

import argparse
from typing import Any

from ..endpoint.serve import serve
from ..errors import InvalidInput, NotFound
from ..model.endpoint import EndpointSpec
from ..model.host import DOCKER_PORT
from ..yard import Yard


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command and its options to the parser."""
    actions = commands.add_parser(
        "endpoint", help="serve a Docker API whose containers are virtual machines"
    ).add_subparsers(required=True, metavar="ACTION")
    command = actions.add_parser(
        "serve",
        parents=[common],
        help="serve until SIGTERM; without --unix and --tls, as the endpoint is declared",
    )
    command.add_argument(
        "--unix", default="", metavar="PATH", help="serve a Unix socket, for this user only"
    )
    command.add_argument(
        "--tls",
        default="",
        metavar="ADDRESS[:PORT]",
        help=f"serve mutual TLS with the tenant's authority (default port: {DOCKER_PORT})",
    )
    command.add_argument(
        "--name", default="endpoint", help="name of the endpoint (default: %(default)s)"
    )
    command.add_argument(
        "--image-host",
        default="images",
        metavar="HOST",
        help="the running host with the images (default: %(default)s)",
    )
    command.add_argument("--tenant", default="default")
    command.add_argument(
        "--spares",
        type=int,
        default=0,
        metavar="NUMBER",
        help="with --unix or --tls: machines that are forked before a container needs them "
        "(default: %(default)s)",
    )
    command.add_argument(
        "--socket-in-containers",
        action="store_true",
        help="let containers bind /var/run/docker.sock, which leads to the endpoint",
    )
    command.set_defaults(run=_serve)


def _serve(yard: Yard, options: argparse.Namespace) -> int:
    spec = _spec(options) if options.unix or options.tls else _declared(yard, options)
    serve(yard, spec)
    return 0


def _declared(yard: Yard, options: argparse.Namespace) -> EndpointSpec:
    """Return an endpoint as it is on record.

    :raises NotFound: if it is not on record.
    """
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


def _spec(options: argparse.Namespace) -> EndpointSpec:
    """Return the endpoint that the options describe."""
    address, _colon, port = options.tls.partition(":")
    if port and not port.isdecimal():
        raise InvalidInput(f"--tls: {port} is not a port.", remedy="write ADDRESS:PORT")
    return EndpointSpec(
        options.name,
        options.image_host,
        tenant=options.tenant,
        socket=options.unix,
        address=address,
        port=int(port or DOCKER_PORT),
        spares=options.spares,
        socket_in_containers=options.socket_in_containers,
    )
