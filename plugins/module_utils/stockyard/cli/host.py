# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard host``: creates, deletes, restarts, suspends and resumes hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput
from ..model.fleet import SingleSpec
from ..model.host import HostSpec
from ..model.network import AUTO, EGRESSES, PublishSpec
from ..model.volume import VolumeUse
from ..result import Result
from . import say
from .branch import BRANCH
from .command import (
    DRY_RUN,
    JSON,
    TENANT,
    Argument,
    Command,
    Group,
    Option,
    Options,
    label,
    pairs,
    timeout,
)
from .durations import change_mode, length

if TYPE_CHECKING:
    from ..yard import Yard

NAMES = Argument("names", "NAME", "the hosts", many=True, required=False, complete="host")
NAMED = replace(NAMES, required=True)
ALL = Option("--all", "all hosts of the yard, of all tenants, leased or not", flag=True)
CHANGE = (TENANT, timeout("10m"), DRY_RUN, JSON)


def _create(yard: Yard, options: Options) -> int:
    volumes = pairs("--volume", options.volume, "NAME=PATH")
    spec = HostSpec(
        ports=options.port,
        publish=_publish(options.publish),
        container_ports=options.container_ports,
        egress=options.egress,
        egress_proxy=options.egress_proxy,
        egress_allow=options.egress_allow,
        network=options.network,
        pool=options.pool,
        vcpus=options.vcpus,
        memory_mib=options.memory_mib,
        volumes=tuple(VolumeUse(name, path) for name, path in volumes.items()),
    )
    single = SingleSpec(
        options.name,
        options.template,
        options.tenant,
        spec,
        pairs("--label", options.label),
        length("ttl", options.ttl) if options.ttl else 0.0,
    )
    return say.changes(options, [yard.hosts.apply(single, **change_mode(options))], "hosts")


def _publish(text: str) -> PublishSpec | None:
    """Return the address and the ports of ``ADDRESS[:FIRST-LAST]``; ``None`` for no text."""
    address, _colon, ports = text.partition(":")
    return PublishSpec(address, ports or AUTO) if text else None


def _delete(yard: Yard, options: Options) -> int:
    return _each(options, partial(yard.hosts.delete, tenant=options.tenant))


def _restart(yard: Yard, options: Options) -> int:
    return _each(options, partial(yard.hosts.restart, tenant=options.tenant))


def _replace(yard: Yard, options: Options) -> int:
    return _each(options, partial(yard.hosts.replace, tenant=options.tenant))


def _suspend(yard: Yard, options: Options) -> int:
    suspend_host = partial(yard.hosts.suspend, tenant=options.tenant, force=options.force)
    return _each(options, suspend_host, yard.suspend)


def _resume(yard: Yard, options: Options) -> int:
    return _each(options, partial(yard.hosts.resume, tenant=options.tenant), yard.resume)


def _each(
    options: Options,
    change_host: Callable[..., Result[Any]],
    change_yard: Callable[..., Result[Any]] | None = None,
) -> int:
    """Change each named host, or the whole yard."""
    if change_yard and options.all == bool(options.names):
        raise InvalidInput("no host was named.", remedy="name the hosts, or specify --all")
    calls: list[Callable[..., Result[Any]]] = [partial(change_host, name) for name in options.names]
    if change_yard and not calls:
        calls = [change_yard]
    results = []
    for call in calls:
        result = call(**change_mode(options))
        results.append(result)
        if not options.json:
            say.actions(options, [str(action) for action in result.plan.actions])
    return say.changes(options, results, "hosts") if options.json else 0


HOST_COMMANDS = Group(
    "host",
    "create, delete, restart, suspend and resume hosts",
    (
        Command(
            "create",
            "create a single host, or change it",
            _create,
            (
                Argument("name", "NAME", "the host"),
                Option("--template", "the template to fork", required=True),
                Option("--port", "a TCP port to publish", many=True, kind=int),
                Option(
                    "--publish",
                    "an address of the hypervisor at which other machines reach the host",
                    metavar="ADDRESS[:FIRST-LAST]",
                ),
                Option(
                    "--container-ports",
                    "forward each TCP port that Docker publishes in the host",
                    flag=True,
                ),
                Option("--ttl", "lifetime of the host: 90s, 45m, 2h"),
                Option("--volume", "a volume to attach", metavar="NAME=PATH", many=True),
                Option("--pool", "the pool of the host"),
                Option("--egress", "destinations of the host", "none", choices=EGRESSES),
                Option("--egress-proxy", "with --egress proxy", metavar="HOST:PORT"),
                Option(
                    "--egress-allow",
                    "a destination of --egress allow, or a private one that --egress open adds",
                    metavar="DESTINATION[:PORT]",
                    many=True,
                ),
                Option("--network", "a libvirt network, or a port group"),
                Option("--vcpus", "virtual CPUs; 0 for those of the template", 0, kind=int),
                Option("--memory-mib", "memory; 0 for that of the template", 0, kind=int),
                label("a label of the host"),
                *CHANGE,
            ),
        ),
        Command("delete", "delete hosts", _delete, (NAMED, *CHANGE)),
        Command("restart", "restart hosts", _restart, (NAMED, *CHANGE)),
        Command(
            "replace",
            "delete hosts and create others under the same names",
            _replace,
            (NAMED, *CHANGE),
        ),
        Command(
            "suspend",
            "save the memory of hosts and stop them",
            _suspend,
            (NAMES, ALL, Option("--force", "suspend leased hosts too", flag=True), *CHANGE),
        ),
        Command("resume", "resume hosts with their memory", _resume, (NAMES, ALL, *CHANGE)),
        BRANCH,
    ),
)
