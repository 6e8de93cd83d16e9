# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The convergence of a whole yard to its declaration: pools, templates, volumes, then fleets, then
deletions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...errors import OperationRefused, StockyardError
from ...model.host import Host
from ...model.observation import Observation
from ...planning.declaration import ABSENT, Declaration, FleetTerm, Key, VolumeTerm, gone_by
from ...planning.plan import UNKNOWN_GENERATION, Action, Plan, gone, plan_deletion
from ..context import Context
from ..fleets import converge_fleet
from ..pools import pool_lifecycle
from ..templates import build_template
from ..volumes import volume_lifecycle
from . import declared_names, declared_pools, declared_volumes, pruning


def plan(
    ctx: Context,
    declaration: Declaration,
    observation: Observation | None = None,
    *,
    confirmed: bool = False,
) -> Plan:
    """Return the plan of :func:`converge`. Changes nothing.

    Hosts whose template will have another generation are shown as replaced, although that
    generation does not exist yet.

    :param confirmed: whether the plan is saved, or compared with a saved plan.
    :raises NotFound: if the declaration needs a template, pool or volume that is neither declared
        nor existing.
    :raises OperationRefused: if it would delete a fleet that is not declared.
    """
    observation = observation or ctx.provider.observe(ctx.owner)
    declared_names.check(ctx, declaration, observation)
    pruning.check(ctx, declaration, observation, confirmed=confirmed)
    pool_actions, observation = declared_pools.planned(ctx, declaration, observation)
    template_plans: dict[Key, Plan] = {}
    for term in declaration.templates:
        # Planned as if no host used any generation; surplus deletions are removed below.
        template_plans[term.spec.tenant, term.spec.name] = build_template.plan(
            ctx, term.spec, observation, frozenset()
        )
    actions = [
        *pool_actions,
        *(
            action
            for todo in template_plans.values()
            for action in todo.actions
            if action.verb != "delete"
        ),
    ]
    actions += declared_volumes.plan(ctx, declaration, observation)
    ctx = declared_volumes.ahead(ctx, declaration)
    remaining_hosts = {host.record.uuid: host for host in observation.hosts}
    for fleet in declaration.working:
        todo = _fleet(ctx, fleet, template_plans, observation)
        actions += todo.actions
        _leave(remaining_hosts, (fleet.spec.tenant, fleet.spec.name), gone_by(todo.actions))
    for key, reason in declaration.fleets_to_go(observation.hosts).items():
        members = converge_fleet.going(observation.members(*key), reason, ctx.clock.now())
        actions += plan_deletion((), members, reason).actions
        _leave(remaining_hosts, key, {host.record.name for host in members})
    used_generations = {
        (host.record.tenant, host.record.template, host.record.generation[:12])
        for host in remaining_hosts.values()
    }
    for key, todo in template_plans.items():
        actions += [
            action
            for action in todo.actions
            if action.verb == "delete"
            and (*key, action.before["generation"]) not in used_generations
        ]
    actions += _templates_to_go(
        declaration, observation, {generation[:2] for generation in used_generations}
    )
    declared_names.tell_kept(ctx, declaration, observation)
    actions += declared_pools.planned_last(ctx, declaration, observation, remaining_hosts.values())
    return Plan((*actions, *declared_volumes.plan_deletions(declaration, observation)))


def converge(ctx: Context, declaration: Declaration, *, confirmed: bool = False) -> Plan:
    """Converge a yard to its declaration. Returns the actions that were taken.

    A part that fails does not stop the other parts; but then no object is deleted for lack of a
    declaration.

    :param confirmed: whether the user applies a saved plan, with the fleets in it that are not
        declared.
    :raises NotFound: before anything changes, if the declaration needs an object that is neither
        declared nor existing.
    :raises OperationRefused: before anything changes, if it would delete a fleet that is not
        declared.
    :raises StockyardError: with all errors.
    """
    observation = ctx.provider.observe(ctx.owner)
    declared_names.check(ctx, declaration, observation)
    if not confirmed:
        pruning.check(ctx, declaration, observation, confirmed=False)
    fleets_to_delete = declaration.fleets_to_go(observation.hosts)
    work = _Work()
    for pool in declared_pools.early(declaration, observation):
        work.attempt(pool_lifecycle.ensure, ctx, pool.spec, pool.timeout)
    for term in declaration.templates:
        work.attempt(build_template.ensure, ctx, term.spec, term.timeout)
    for volume in declaration.volumes:
        work.attempt(volume_lifecycle.ensure, ctx, volume.spec, volume.timeout)
    for fleet in declaration.working:
        work.attempt(
            converge_fleet.converge, replace(ctx, wait=fleet.wait), fleet.spec, fleet.timeout
        )
    for pool in declared_pools.late(declaration, observation):
        work.attempt(declared_pools.shrink, ctx, pool)
    if not work.errors:
        _clear(ctx, declaration, work, fleets_to_delete)
    return work.plan()


class _Work:
    """The actions of a run, and its errors."""

    def __init__(self) -> None:
        self.done: list[Action] = []
        self.errors: list[StockyardError] = []

    def attempt(self, operation: Callable[..., Plan], *arguments: Any) -> None:
        """Run one part, and keep its actions or its error."""
        try:
            self.done.extend(operation(*arguments).actions)
        except StockyardError as error:
            self.errors.append(error)

    def plan(self) -> Plan:
        """Return all actions that were taken.

        :raises StockyardError: with all errors.
        """
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise StockyardError(
                f"{len(self.errors)} parts of the yard failed.",
                cause="; ".join(map(str, self.errors)),
            )
        return Plan(tuple(self.done))


def _fleet(
    ctx: Context, term: FleetTerm, template_plans: dict[Key, Plan], observation: Observation
) -> Plan:
    """Return the plan of one fleet, for the generation that its template will have."""
    todo = template_plans.get((term.spec.tenant, term.spec.template), Plan())
    generation = None
    for action in todo.actions:
        if action.verb == "build":
            generation = UNKNOWN_GENERATION
        elif action.verb == "promote":
            generation = str(action.after["generation"])
    return converge_fleet.plan(replace(ctx, wait=term.wait), term.spec, observation, generation)


def _leave(remaining_hosts: dict[str, Host], fleet: Key, names: set[str]) -> None:
    """Remove hosts of a fleet from the remaining hosts."""
    for uuid, host in list(remaining_hosts.items()):
        if (host.record.tenant, host.record.fleet) == fleet and host.record.name in names:
            del remaining_hosts[uuid]


def _clear(
    ctx: Context, declaration: Declaration, work: _Work, fleets_to_delete: dict[Key, str]
) -> None:
    """Delete all objects that are no longer declared, each after the objects in it.

    :param fleets_to_delete: the fleets to delete, as of the start of the run. A fleet that another
        run created since then remains.
    """
    for (tenant, name), reason in fleets_to_delete.items():
        work.attempt(converge_fleet.remove, ctx, tenant, name, FleetTerm.timeout, reason)
    observation = ctx.provider.observe(ctx.owner)
    declared_names.tell_kept(ctx, declaration, observation)
    for term in declaration.templates:
        if len(observation.generations(term.spec.tenant, term.spec.name)) > 1:
            work.attempt(build_template.tidy, ctx, term.spec, term.timeout)
    work.attempt(_remove_templates, ctx, declaration, observation)
    work.attempt(declared_pools.remove, ctx, declaration, observation)
    for tenant, name in declaration.absent_volumes:
        work.attempt(volume_lifecycle.delete, ctx, tenant, name, VolumeTerm.timeout)


def _templates_to_go(
    declaration: Declaration, observation: Observation, used_keys: set[Key]
) -> list[Action]:
    """Return the deletions of templates, with all their generations: no template that a host uses,
    and none while a record cannot be read.
    """
    reasons = {} if observation.unreadable else declaration.templates_to_go(observation.templates)
    return [
        gone("template", key[1], reasons[key], _generations(observation, key))
        for key in reasons
        if key not in used_keys
    ]


def _generations(observation: Observation, key: Key) -> dict[str, Any]:
    return {
        "generations": [
            template.record.generation[:12] for template in observation.generations(*key)
        ]
    }


def _remove_templates(ctx: Context, declaration: Declaration, observation: Observation) -> Plan:
    used_keys = {(host.record.tenant, host.record.template) for host in observation.hosts}
    todo = _templates_to_go(declaration, observation, used_keys)
    reasons = {} if observation.unreadable else declaration.templates_to_go(observation.templates)
    for (tenant, name), reason in reasons.items():
        if (tenant, name) not in used_keys:
            build_template.remove(ctx, tenant, name, FleetTerm.timeout)
        elif reason == ABSENT:
            raise OperationRefused(
                "hosts of the template exist.",
                name=f"template {name}",
                remedy="delete the hosts first",
            )
        else:
            ctx.progress(f"template {name}: {reason}; retained, because hosts of it exist")
    return Plan(tuple(todo))
