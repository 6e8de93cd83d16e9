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


def undeclared(ctx: Context, declared: Declaration, seen: Observation) -> dict[Key, list[str]]:
    """Return the names of the hosts that pruning deletes, by the tenant and name of their fleet."""
    now, pruned = ctx.clock.now(), dict[Key, list[str]]()
    for key, reason in declared.fleets_to_go(seen.hosts).items():
        members = [h for h in seen.hosts if (h.record.tenant, h.record.fleet) == key]
        if reason != ABSENT and (leaving := converge_fleet.going(members, reason, now)):
            pruned[key] = sorted(h.record.name for h in leaving)
    return pruned


def check(ctx: Context, declared: Declaration, seen: Observation, *, confirmed: bool) -> None:
    """Refuse to delete the hosts of a fleet that is not declared, unless ``prune`` is ``force``.

    :param confirmed: whether the user looks at a saved plan before its hosts are deleted.
    :raises Refused: with the fleets and the number of their hosts.
    """
    pruned = undeclared(ctx, declared, seen) if declared.prune != "force" else {}
    if not pruned:
        return
    hosts = sorted(name for names in pruned.values() for name in names)
    total = sum(1 for h in seen.hosts if h.record.fleet)
    loss = f"{len(hosts)} of {total} hosts"
    named = ", ".join(f"fleet {name} of tenant {tenant}" for tenant, name in sorted(pruned))
    if confirmed:
        ctx.progress(
            f"yard {ctx.owner}: the plan deletes {loss} because their fleets are not declared: "
            f"{named}"
        )
        return
    more = f" and {len(hosts) - NAMED} more" if len(hosts) > NAMED else ""
    raise OperationRefused(
        f"the run would delete {loss} ({', '.join(hosts[:NAMED])}{more}). Nothing was changed.",
        name=f"yard {ctx.owner}",
        cause=f"not declared: {named}",
        remedy="check that owner and declaration are of the same yard; then declare the fleet with "
        "state: absent, "
        "apply a saved plan (save_plan in check mode, then only_if), or set prune to force",
    )
