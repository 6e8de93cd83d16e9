# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoints of a declared yard: created after the fleets, deleted before them."""

from __future__ import annotations

from collections.abc import Mapping

from ...model.observation import Observation
from ...planning.declaration import Declaration, Key
from ...planning.plan import Action, Plan
from ..context import Context
from ..endpoints import endpoint_lifecycle
from ..endpoints.endpoint_lifecycle import EndpointConvergence, EndpointDeletion


def planned(
    ctx: Context,
    declaration: Declaration,
    observation: Observation,
    generations: Mapping[Key, str | None],
) -> list[Action]:
    """Return the actions on declared endpoints.

    :param generations: the generation that each declared template will have; ``None`` if it does
        not change.
    """
    return [
        action
        for term in declaration.endpoints
        for action in EndpointConvergence(ctx, term.spec, term.replace)
        .plan_from(observation, generations.get((term.spec.tenant, term.spec.template)))
        .actions
    ]


def planned_deletions(
    ctx: Context, declaration: Declaration, observation: Observation
) -> dict[Key, Plan]:
    """Return the plan that deletes each endpoint which is declared absent or not declared."""
    plans = {
        key: EndpointDeletion(ctx, *key, reason).plan_from(observation)
        for key, reason in endpoints_to_go(declaration, observation).items()
    }
    return {key: plan for key, plan in plans.items() if plan}


def endpoints_to_go(declaration: Declaration, observation: Observation) -> dict[Key, str]:
    """Return the endpoints to delete, each with the reason. One that is declared absent can have
    machines although it is not on record.
    """
    existing_keys = {
        (host.record.tenant, host.record.endpoint.name)
        for host in endpoint_lifecycle.recorded(observation)
        if host.record.endpoint
    }
    return declaration.endpoints_to_go(existing_keys | {*declaration.absent_endpoints})
