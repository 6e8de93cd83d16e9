# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the hosts of a plan can be made as declared: asked before anything is touched."""

from __future__ import annotations

from ...errors import Conflict, StockyardError
from ...model.host import HostSpec, host_domain
from ...model.network import clash
from ...model.observation import Observation, Template
from ...planning.plan import Plan
from ...planning.resize import check
from ..context import Context
from ..hosts import egress
from ..pools.pool_lifecycle import frozen, most

TOUCHED = ("create", "replace", "destroy")


def admit(
    ctx: Context,
    tenant: str,
    spec: HostSpec,
    todo: Plan,
    seen: Observation,
    template: Template | None = None,
) -> None:
    """Refuse a plan with hosts that cannot be created, before an old host is deleted for the sake
    of one.

    :raises Unsupported: if the hypervisor cannot do what is declared.
    :raises Conflict: if a name, an address or a port belongs to a machine that stays.
    :raises StockyardError: if the provider refuses them, see
        :meth:`..core.provider.Provider.check_host`.
    """
    made = [a.name for a in todo.actions if a.verb in ("create", "replace")]
    if not made:
        return
    goes = {(tenant, a.name) for a in todo.actions if a.verb in TOUCHED}
    going = [h.record for h in seen.hosts if (h.record.tenant, h.record.name) in goes]
    _check_names(ctx, tenant, made, seen)
    if template:
        check(spec, frozen(template.record), most(ctx, template.record), f"host {made[0]}")
    # A new host's own address is nobody else's, whatever it will be: only a port at every address
    # is in its way.
    wanted = frozenset((spec.bind, port) for port in (() if spec.network else spec.ports))
    for record in (h.record for h in seen.hosts):
        if (record.tenant, record.name) in goes:
            continue
        found = clash(wanted, record.published)
        if found:
            raise Conflict(
                f"port {found[1]} cannot be published on {found[0] or 'its own address'}.",
                name=f"host {made[0]}",
                cause=f"{record.title} publishes it",
                remedy="choose another port or another address (bind)",
            )
    try:
        egress.check(ctx, spec)
        ctx.provider.check_host(spec, template.record if template else None, going, len(made))
    except StockyardError as error:
        error.name = error.name or f"host {made[0]}"
        raise


def _check_names(ctx: Context, tenant: str, made: list[str], seen: Observation) -> None:
    """Refuse a name that a machine has which is no host of this yard."""
    own = {h.record.domain for h in seen.hosts}
    for name in made:
        domain = host_domain(ctx.owner, tenant, name)
        if domain in seen.names - own:
            raise Conflict(
                "a machine of this name exists.",
                name=f"host {name}",
                cause=f"the machine {domain} has no record of a host of this yard",
                remedy="choose another name, or remove that machine",
            )
