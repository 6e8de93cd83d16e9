# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard branch``: creates hosts from a running host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.branch import CONTAINER_ACTIONS, VOLUME_ACTIONS, BranchSpec
from . import say
from .command import DRY_RUN, HOST, JSON, TENANT, Argument, Command, Option, Options, label, pairs
from .durations import length

if TYPE_CHECKING:
    from ..yard import Yard


def _branch(yard: Yard, options: Options) -> int:
    spec = BranchSpec(
        options.host,
        tuple(options.names),
        count=options.count,
        fleet=options.fleet,
        tenant=options.tenant,
        containers=options.containers,
        volumes=options.volumes,
        labels=pairs("--label", options.label),
        ttl=length("ttl", options.ttl) if options.ttl else 0.0,
        lease=options.lease,
        allow_hostile=options.allow_hostile,
    )
    result = yard.hosts.branch(spec, check=options.dry_run)
    if options.json or options.dry_run:
        return say.changes(options, [result], "hosts")
    for host in result.objects:
        say.out(f"{host.name}  {host.docker.endpoint}")
    return 0


BRANCH = Command(
    "branch",
    "create hosts with the memory, disk and containers of a running host",
    _branch,
    (
        HOST,
        Argument("names", "NAME", "the names of the children", many=True, required=False),
        Option("--count", "number of children without names", 1, kind=int),
        Option("--fleet", "the fleet that the children belong to"),
        TENANT,
        Option(
            "--containers",
            "action on the containers of the children",
            "keep",
            choices=CONTAINER_ACTIONS,
        ),
        Option(
            "--volumes",
            "volumes of the children: copies of those of the host, or none",
            "copy",
            choices=VOLUME_ACTIONS,
        ),
        label("a label of the children"),
        Option("--ttl", "lifetime of the children: 90s, 45m, 2h"),
        Option("--lease", "the number of the lease of a leased host"),
        Option("--allow-hostile", "also branch a host with the profile hostile", flag=True),
        DRY_RUN,
        JSON,
    ),
)
