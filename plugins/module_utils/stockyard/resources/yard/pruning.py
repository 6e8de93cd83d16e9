# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets that a run deletes because they are not declared: only if the user confirmed it."""

from __future__ import annotations

from ...errors import OperationRefused
from ...model.observation import Observation
from ...planning.declaration import ABSENT, Declaration, Key
from ..context import Context
from ..fleets import converge_fleet

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


def check(
    ctx: Context, declaration: Declaration, observation: Observation, *, confirmed: bool
) -> None:
    """Refuse to delete the hosts of a fleet that is not declared, unless ``prune`` is ``force``.

    :param confirmed: whether the user reads a saved plan before its hosts are deleted.
    :raises OperationRefused: with the fleets and the number of their hosts.
    """
    pruned_hosts = undeclared(ctx, declaration, observation) if declaration.prune != "force" else {}
    if not pruned_hosts:
        return
    hosts = sorted(name for names in pruned_hosts.values() for name in names)
    total = sum(1 for host in observation.hosts if host.record.fleet)
    loss = f"{len(hosts)} of {total} hosts"
    fleets = ", ".join(f"fleet {name} of tenant {tenant}" for tenant, name in sorted(pruned_hosts))
    if confirmed:
        ctx.progress(
            f"yard {ctx.owner}: the plan deletes {loss} because their fleets are not declared: "
            f"{fleets}"
        )
        return
    suffix = f" and {len(hosts) - NAMED} more" if len(hosts) > NAMED else ""
    raise OperationRefused(
        f"the run would delete {loss} ({', '.join(hosts[:NAMED])}{suffix}). Nothing was changed.",
        name=f"yard {ctx.owner}",
        cause=f"not declared: {fleets}",
        remedy="check that owner and declaration belong to the same yard; then declare the "
        "fleet with state: absent, apply a saved plan (save_plan in check mode, then "
        "apply_plan), or set prune to force",
    )
