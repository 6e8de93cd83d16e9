# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets and endpoints that a run deletes because they are not declared: only if the user confirmed
it.
"""

from __future__ import annotations

from ...errors import OperationRefused
from ...model.container_machine import ENDPOINT_LABEL
from ...model.host import Host
from ...model.observation import Observation
from ...planning.declaration import ABSENT, Declaration, Key
from ..context import Context
from ..endpoints import endpoint_lifecycle
from ..fleets import converge_fleet
from . import declared_endpoints

NAMED = 10


def undeclared(
    ctx: Context, declaration: Declaration, observation: Observation
) -> dict[Key, list[str]]:
    """Return the names of the hosts that pruning deletes, by the tenant and name of their fleet."""
    current_time, pruned_hosts = ctx.clock.now(), dict[Key, list[str]]()
    for key, reason in declaration.fleets_to_go(observation.hosts).items():
        members = observation.members(*key)
        if reason != ABSENT and (
            hosts_to_delete := converge_fleet.hosts_to_delete(members, reason, current_time)
        ):
            pruned_hosts[key] = sorted(host.record.name for host in hosts_to_delete)
    return pruned_hosts


def undeclared_endpoints(
    declaration: Declaration, observation: Observation
) -> dict[Key, list[str]]:
    """Return the names of the hosts that pruning deletes, by the tenant and name of their
    endpoint.
    """
    deleted_hosts = {
        key: [host.name for host in endpoint_lifecycle.hosts_to_delete(observation, *key)]
        for key, reason in declared_endpoints.endpoints_to_go(declaration, observation).items()
        if reason != ABSENT
    }
    return {key: names for key, names in deleted_hosts.items() if names}


def check(
    ctx: Context, declaration: Declaration, observation: Observation, *, confirmed: bool
) -> None:
    """Refuse to delete the hosts of a fleet or an endpoint that is not declared, unless ``prune``
    is ``force``.

    :param confirmed: whether the user reads a saved plan before its hosts are deleted.
    :raises OperationRefused: with the fleets and endpoints, and the number of their hosts.
    """
    if declaration.prune == "force":
        return
    pruned = {
        **{
            ("fleet", *key): names
            for key, names in undeclared(ctx, declaration, observation).items()
        },
        **{
            ("endpoint", *key): names
            for key, names in undeclared_endpoints(declaration, observation).items()
        },
    }
    if not pruned:
        return
    hosts = sorted(name for names in pruned.values() for name in names)
    total = sum(1 for host in observation.hosts if host.record.fleet or is_of_endpoint(host))
    loss = f"{len(hosts)} of {total} hosts"
    listed = ", ".join(
        f"{kind} {name} of tenant {tenant}"
        for kind, tenant, name in sorted(pruned, key=lambda key: (key[0] == "endpoint", key))
    )
    if confirmed:
        ctx.progress(
            f"yard {ctx.owner}: the plan deletes {loss} because these objects are not declared: "
            f"{listed}"
        )
        return
    suffix = f" and {len(hosts) - NAMED} more" if len(hosts) > NAMED else ""
    raise OperationRefused(
        f"the run would delete {loss} ({', '.join(hosts[:NAMED])}{suffix}). Nothing was changed.",
        name=f"yard {ctx.owner}",
        cause=f"not declared: {listed}",
        remedy="check that owner and declaration belong to the same yard; then declare the "
        "object with state: absent, apply a saved plan (save_plan in check mode, then "
        "apply_plan), or set prune to force",
    )


def is_of_endpoint(host: Host) -> bool:
    """Return whether a host is a machine or the image host of an endpoint."""
    return ENDPOINT_LABEL in host.record.labels or host.record.endpoint is not None
