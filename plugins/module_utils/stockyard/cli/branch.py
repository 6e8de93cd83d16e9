# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard branch``: creates hosts from a running host."""

from __future__ import annotations

import argparse
from typing import Any

from ..model.branch import CONTAINER_ACTIONS, VOLUME_ACTIONS, BranchSpec
from ..yard import Yard
from . import labels, say
from .durations import length


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command and its options to the parser."""
    branch = commands.add_parser(
        "branch",
        parents=[common],
        help="create hosts with the memory, disk and containers of a running host",
    )
    branch.add_argument("host", metavar="HOST", help="the running host")
    branch.add_argument("names", nargs="*", metavar="NAME", help="the names of the children")
    branch.add_argument(
        "--count", type=int, default=1, help="number of children without names (default: 1)"
    )
    branch.add_argument("--fleet", default="", help="the fleet that the children belong to")
    branch.add_argument("--tenant", default="default")
    branch.add_argument(
        "--containers",
        choices=CONTAINER_ACTIONS,
        default="keep",
        help="action on the containers of the children (default: %(default)s)",
    )
    branch.add_argument(
        "--volumes",
        choices=VOLUME_ACTIONS,
        default="copy",
        help="volumes of the children: copies of those of the host, or none (default: %(default)s)",
    )
    labels.add(branch, "a label of the children")
    branch.add_argument("--ttl", default="", help="lifetime of the children: 90s, 45m, 2h")
    branch.add_argument("--lease", default="", help="the number of the lease of a leased host")
    branch.add_argument(
        "--allow-hostile", action="store_true", help="also branch a host with the profile hostile"
    )
    branch.add_argument(
        "--dry-run", action="store_true", help="print the hosts to create, and create nothing"
    )
    branch.add_argument("--json", action="store_true", help="print all facts of the children")
    branch.set_defaults(run=_branch)


def _branch(yard: Yard, options: argparse.Namespace) -> int:
    spec = BranchSpec(
        options.host,
        tuple(options.names),
        count=options.count,
        fleet=options.fleet,
        tenant=options.tenant,
        containers=options.containers,
        volumes=options.volumes,
        labels=labels.parse(options.label),
        ttl=length("ttl", options.ttl) if options.ttl else 0.0,
        lease=options.lease,
        allow_hostile=options.allow_hostile,
    )
    result = yard.hosts.branch(spec, check=options.dry_run)
    if options.json:
        plan = [str(action) for action in result.plan.actions]
        say.data({"plan": plan, "hosts": [host.to_dict() for host in result.objects]})
    elif options.dry_run:
        for action in result.plan.actions:
            say.out(f"would {action}")
    else:
        for host in result.objects:
            say.out(f"{host.name}  {host.docker.endpoint}")
    return 0
