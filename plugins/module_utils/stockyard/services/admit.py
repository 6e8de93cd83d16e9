# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the hosts of a plan can be made as declared: asked before anything is touched."""

from __future__ import annotations

from ..core.host import HostSpec
from ..core.network import clash
from ..core.plan import Plan
from ..core.provider import Observation, Template
from ..core.resize import check
from ..errors import Conflict
from .context import Context
from .pools import frozen, most

TOUCHED = ("create", "replace", "destroy")


def admit(
    ctx: Context, tenant: str, spec: HostSpec, todo: Plan, seen: Observation, template: Template | None = None
) -> None:
    """Refuse a plan that makes hosts which cannot be: an old host is not destroyed for the sake of one.

    :raises Unsupported: when the hypervisor cannot do what is declared.
    :raises Conflict: when a port is published by a host that stays, or is somebody else's.
    """
    made = [a.name for a in todo.actions if a.verb in ("create", "replace")]
    if not made:
        return
    goes = {(tenant, a.name) for a in todo.actions if a.verb in TOUCHED}
    going = [h.record for h in seen.hosts if (h.record.tenant, h.record.name) in goes]
    if template:
        check(spec, frozen(template.record), most(ctx, template.record), f"host {made[0]}")
    # A new host's own address is nobody else's, whatever it will be: only a port at every address is in its way.
    wanted = frozenset((spec.bind, port) for port in (() if spec.network else spec.ports))
    for record in (h.record for h in seen.hosts):
        if (record.tenant, record.name) in goes:
            continue
        found = clash(wanted, record.published)
        if found:
            raise Conflict(
                f"port {found[1]} cannot be published on {found[0] or 'its own address'}.", name=f"host {made[0]}",
                cause=f"{record.title} publishes it", remedy="choose another port or another address (bind)",
            )  # fmt: skip
    try:
        ctx.provider.check_host(spec, frozenset().union(*(record.published for record in going)))
    except Conflict as error:
        error.name = f"host {made[0]}"
        raise
