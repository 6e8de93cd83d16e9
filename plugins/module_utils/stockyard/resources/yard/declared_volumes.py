# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volumes of a declared yard, as its plan shows them."""

from __future__ import annotations

from dataclasses import replace

from ...model.observation import Observation
from ...planning.declaration import Declaration
from ...planning.plan import Action
from ...planning.volumes import plan_removal
from ..context import Context
from ..volumes import volume_lifecycle


def plan(ctx: Context, declaration: Declaration, observation: Observation) -> list[Action]:
    """Return the actions that create or grow volumes before any host is created. An earlier action
    may create the source of a volume.
    """
    actions: list[Action] = []
    created_keys: set[tuple[str, str]] = set()
    for term in declaration.volumes:
        spec = term.spec
        resolved_spec = (
            replace(spec, source="", snapshot=False)
            if (spec.tenant, spec.source) in created_keys
            else spec
        )
        volume_actions = volume_lifecycle.planned(
            ctx, resolved_spec, observation.volumes, observation.host_uuids
        ).actions
        if any(action.verb == "create" for action in volume_actions):
            created_keys.add((spec.tenant, spec.name))
            volume_actions = tuple(
                replace(
                    action, after={**action.after, "source": spec.source, "snapshot": spec.snapshot}
                )
                for action in volume_actions
            )
        actions += volume_actions
    return actions


def ahead(ctx: Context, declaration: Declaration) -> Context:
    """Return a context for the plans of hosts, in which all declared volumes exist."""
    return replace(
        ctx,
        coming=frozenset((volume.spec.tenant, volume.spec.name) for volume in declaration.volumes),
    )


def plan_deletions(declaration: Declaration, observation: Observation) -> list[Action]:
    """Return the deletions of volumes that are declared absent, once no host holds them."""
    volumes = [observation.volumes.find(*key) for key in declaration.absent_volumes]
    # A host that holds one is deleted before; otherwise the deletion is refused when it runs.
    return [action for volume in volumes for action in plan_removal(volume, ()).actions]
