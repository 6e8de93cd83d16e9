# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the hosts of a plan, before anything changes: can they be created as declared?"""

from __future__ import annotations

from ...errors import Conflict, StockyardError, Unsupported
from ...model.host import HostRecord, HostSpec, host_domain
from ...model.network import clash
from ...model.observation import Observation, Template
from ...model.publication import exhausted
from ...planning.plan import Plan
from ...planning.resize import check
from ..context import Context
from ..hosts import container_ports, egress
from ..pools.pool_lifecycle import frozen, most

TOUCHED = ("create", "replace", "delete")


def check_creatable(
    ctx: Context,
    tenant: str,
    spec: HostSpec,
    todo: Plan,
    observation: Observation,
    template: Template | None = None,
) -> None:
    """Refuse a plan with hosts that cannot be created, before an existing host is deleted for it.

    :raises Unsupported: if the hypervisor does not support the declaration.
    :raises Conflict: if a name, an address or a port belongs to a machine that remains.
    :raises StockyardError: if the provider refuses the hosts, see
        :meth:`...hypervisor.provider.Provider.check_host`.
    """
    new_names = [action.name for action in todo.actions if action.verb in ("create", "replace")]
    if not new_names:
        return
    deleted_keys = {(tenant, action.name) for action in todo.actions if action.verb in TOUCHED}
    deleted_records = [
        host.record
        for host in observation.hosts
        if (host.record.tenant, host.record.name) in deleted_keys
    ]
    _check_names(ctx, tenant, new_names, observation)
    _check_memory(ctx, spec, new_names, template)
    if template:
        check(spec, frozen(template.record), most(ctx, template.record), f"host {new_names[0]}")
        if template.mismatch and spec.fork_mode == "instant":
            ctx.progress(
                f"{template.record.title}: hosts boot from its disk, because its memory cannot be "
                f"resumed: {template.mismatch}"
            )
    # A new host's own address belongs to no other host: only a port that is published at every
    # address can conflict with it.
    published_ports = frozenset((spec.bind, port) for port in (() if spec.network else spec.ports))
    for record in (host.record for host in observation.hosts):
        if (record.tenant, record.name) in deleted_keys:
            continue
        conflict = clash(published_ports, record.published)
        if conflict:
            raise Conflict(
                f"port {conflict[1]} cannot be published on {conflict[0] or 'its own address'}.",
                name=f"host {new_names[0]}",
                cause=f"{record.title} publishes this port",
                remedy="choose another port or another address (bind)",
            )
    try:
        egress.check(ctx, spec)
        container_ports.check(ctx, spec, template.record if template else None)
        ctx.provider.check_host(
            spec, template.record if template else None, deleted_records, len(new_names)
        )
        _check_publish(ctx, spec, todo, deleted_records)
    except StockyardError as error:
        error.name = error.name or f"host {new_names[0]}"
        raise


def _check_publish(
    ctx: Context, spec: HostSpec, todo: Plan, deleted_records: list[HostRecord]
) -> None:
    """Refuse a plan if too few ports are free at any of its steps.

    :raises Conflict: with the numbers.
    """
    publish = spec.publish
    if publish is None:
        return
    created = sum(action.verb in ("create", "replace") for action in todo.actions)
    free = len(ctx.provider.free_ports(publish, created * spec.port_count))
    released = {
        record.name: sum(
            port in publish.range
            for address, port in record.published
            if address == publish.address
        )
        for record in deleted_records
    }
    for wave in todo.waves():
        for action in wave:
            free += released.get(action.name, 0) if action.verb in ("replace", "delete") else 0
        needed = spec.port_count * sum(action.verb in ("create", "replace") for action in wave)
        if needed > free:
            raise exhausted(publish, free, needed, "")
        free -= needed


def _check_memory(
    ctx: Context, spec: HostSpec, new_names: list[str], template: Template | None
) -> None:
    """Refuse hosts that are larger than the hypervisor, and report hosts that are so together:
    forks share memory, so this can be intended.

    :raises Unsupported: with the numbers.
    """
    available_mib = ctx.provider.capacity().memory_mib
    own_mib = spec.memory_mib or (template.record.hardware.memory_mib if template else 0)
    if not available_mib:
        return
    if own_mib > available_mib:
        raise Unsupported(
            f"the host needs {own_mib} MiB of memory.",
            name=f"host {new_names[0]}",
            cause=f"the hypervisor has {available_mib} MiB",
            remedy="reduce memory_mib",
        )
    if own_mib * len(new_names) > available_mib:
        ctx.progress(
            f"host {new_names[0]} and {len(new_names) - 1} more can use "
            f"{own_mib * len(new_names)} MiB of memory together, and the hypervisor has "
            f"{available_mib} MiB"
        )


def _check_names(ctx: Context, tenant: str, new_names: list[str], observation: Observation) -> None:
    """Refuse a name that belongs to a machine outside of this yard."""
    own_domains = {host.record.domain for host in observation.hosts}
    for name in new_names:
        domain = host_domain(ctx.owner, tenant, name)
        if domain in observation.names - own_domains:
            raise Conflict(
                "another machine has this name.",
                name=f"host {name}",
                cause=f"machine {domain} has no record of a host of this yard",
                remedy="choose another name, or delete that machine",
            )
