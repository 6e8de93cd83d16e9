# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names in a declaration, compared with the existing objects before anything changes."""

from __future__ import annotations

from ...errors import NotFound
from ...model.observation import Observation
from ...planning.declaration import Declaration, Key
from ..context import Context


def check(ctx: Context, declaration: Declaration, observation: Observation) -> None:
    """Refuse a declaration that needs objects which are neither declared nor existing.

    :raises NotFound: with all missing objects.
    """
    if not declaration.needed:
        return
    available_keys = _remaining_objects(declaration, observation) | _volumes(
        ctx, declaration, observation
    )
    missing_needs = [
        need for need in declaration.needed if (need.kind, need.key) not in available_keys
    ]
    if missing_needs:
        first_need, further_needs = (
            missing_needs[0],
            [f"{need.needed_by} needs {need.kind} {need.key[1]}" for need in missing_needs[1:]],
        )
        raise NotFound(
            f"the declaration needs {first_need.kind} {first_need.key[1]}, which is neither "
            "declared nor existing.",
            name=first_need.needed_by,
            cause=f"the same is true of: {', '.join(further_needs)}" if further_needs else "",
            remedy="correct the name, or declare that object too, in the same tenant",
        )


def report_retained(ctx: Context, declaration: Declaration, observation: Observation) -> None:
    """Report objects that remain only because no object of their kind is declared."""
    existing_names = {
        "fleets": {host.record.fleet for host in observation.hosts}
        - {name for _tenant, name in declaration.absent_fleets},
        "endpoints": {
            host.record.endpoint.name for host in observation.hosts if host.record.endpoint
        }
        - {name for _tenant, name in declaration.absent_endpoints},
        "templates": {template.record.name for template in observation.templates}
        - {name for _tenant, name in declaration.absent_templates},
        "pools": {pool.name for pool in observation.pools}
        - {name for _tenant, name in declaration.absent_pools},
    }
    for kind in declaration.in_doubt:
        names = ", ".join(sorted(filter(None, existing_names[kind])))
        if names:
            ctx.progress(
                f"no {kind} are declared, probably by mistake; retaining {names} (prune: "
                "force deletes them)"
            )


def _remaining_objects(declaration: Declaration, observation: Observation) -> set[tuple[str, Key]]:
    """Return the usable objects that remain."""
    templates = {
        (template.record.tenant, template.record.name) for template in observation.templates
    }
    usable_keys = {key for key in templates if observation.template(*key)} - {
        *declaration.absent_templates
    }
    pools = {(pool.tenant, pool.name) for pool in observation.pools} - {*declaration.absent_pools}
    return {("template", key) for key in usable_keys} | {("pool", key) for key in pools}


def _volumes(
    ctx: Context, declaration: Declaration, observation: Observation
) -> set[tuple[str, Key]]:
    """Return the existing volumes, and the sources of copies that exist: those sources are no
    longer needed.

    A hypervisor without volumes reports that itself.
    """
    if (
        not any(need.kind == "volume" for need in declaration.needed)
        or not ctx.provider.capabilities.volumes
    ):
        return {("volume", need.key) for need in declaration.needed}
    existing_keys = {volume.key for volume in observation.volumes.volumes}
    copied_sources = {
        (volume.spec.tenant, volume.spec.source)
        for volume in declaration.volumes
        if (volume.spec.tenant, volume.spec.name) in existing_keys
    }
    return {
        ("volume", key) for key in (existing_keys - {*declaration.absent_volumes}) | copied_sources
    }
