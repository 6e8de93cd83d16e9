# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole yard made as it is declared: pools, templates, volumes, then fleets, then
what is to go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...errors import OperationRefused, StockyardError
from ...model.host import Host
from ...model.observation import Observation
from ...planning.declaration import ABSENT, Declaration, FleetTerm, Key, VolumeTerm, gone_by
from ...planning.plan import UNKNOWN_GENERATION, Action, Plan, gone, plan_destroy
from ...planning.templates import generations
from ..context import Context
from ..fleets import converge_fleet
from ..pools import pool_lifecycle
from ..templates import build_template
from ..volumes import volume_lifecycle
from . import declared_names, declared_pools, declared_volumes, pruning


def plan(
    ctx: Context, declared: Declaration, seen: Observation | None = None, *, confirmed: bool = False
) -> Plan:
    """What :func:`converge` would do. Changes nothing.

    Hosts whose template will have another generation are shown as replaced, though that one is not
    there yet.

    :param confirmed: whether the plan is saved, or held against a saved one.
    :raises NotFound: when it needs a template, pool or volume that is neither declared nor there.
    :raises Refused: if it would delete a fleet that is not declared.
    """
    seen = seen or ctx.provider.observe(ctx.owner)
    declared_names.check(ctx, declared, seen)
    pruning.check(ctx, declared, seen, confirmed=confirmed)
    bounds, seen = declared_pools.planned(ctx, declared, seen)
    built: dict[Key, Plan] = {}
    for term in declared.templates:
        # As if no host lived anywhere: what that takes away too much is put right below.
        built[term.spec.tenant, term.spec.name] = build_template.plan(
            ctx, term.spec, seen, frozenset()
        )
    actions = [
        *bounds,
        *(a for todo in built.values() for a in todo.actions if a.verb != "destroy"),
    ]
    actions += declared_volumes.plan(ctx, declared)
    ctx = declared_volumes.ahead(ctx, declared)
    left = {h.record.uuid: h for h in seen.hosts}
    for fleet in declared.working:
        todo = _fleet(ctx, fleet, built, seen)
        actions += todo.actions
        _leave(left, (fleet.spec.tenant, fleet.spec.name), gone_by(todo.actions))
    for key, reason in declared.fleets_to_go(seen.hosts).items():
        members = converge_fleet.going(_members(seen, key), reason, ctx.clock.now())
        actions += plan_destroy((), members, reason).actions
        _leave(left, key, {h.record.name for h in members})
    used = {(h.record.tenant, h.record.template, h.record.generation[:12]) for h in left.values()}
    for key, todo in built.items():
        actions += [
            a
            for a in todo.actions
            if a.verb == "destroy" and (*key, a.before["generation"]) not in used
        ]
    actions += _templates_to_go(declared, seen, {u[:2] for u in used})
    declared_names.tell_kept(ctx, declared, seen)
    actions += declared_pools.planned_last(ctx, declared, seen, left.values())
    return Plan((*actions, *declared_volumes.plan_deletions(ctx, declared)))


def converge(ctx: Context, declared: Declaration, *, confirmed: bool = False) -> Plan:
    """Make a yard as it is declared. Returns what was done.

    What fails does not keep the rest from being made; but then nothing goes because it is not
    declared.

    :param confirmed: whether the user applies a saved plan, with the fleets in it that are not
        declared.
    :raises NotFound: before anything is changed, when it needs what is neither declared nor there.
    :raises Refused: before anything is changed, if it would delete a fleet that is not declared.
    :raises StockyardError: with everything that went wrong.
    """
    seen = ctx.provider.observe(ctx.owner)
    declared_names.check(ctx, declared, seen)
    if not confirmed:
        pruning.check(ctx, declared, seen, confirmed=False)
    leaving = declared.fleets_to_go(seen.hosts)
    work = _Work()
    for pool in declared_pools.early(ctx, declared):
        work.attempt(pool_lifecycle.ensure, ctx, pool.spec, pool.timeout)
    for term in declared.templates:
        work.attempt(build_template.ensure, ctx, term.spec, term.timeout)
    for volume in declared.volumes:
        work.attempt(volume_lifecycle.ensure, ctx, volume.spec, volume.timeout)
    for fleet in declared.working:
        work.attempt(
            converge_fleet.converge, replace(ctx, wait=fleet.wait), fleet.spec, fleet.timeout
        )
    for pool in declared_pools.late(ctx, declared):
        work.attempt(declared_pools.shrink, ctx, pool)
    if not work.errors:
        _clear(ctx, declared, work, leaving)
    return work.plan()


class _Work:
    """What was done, and what went wrong."""

    def __init__(self) -> None:
        self.done: list[Action] = []
        self.errors: list[StockyardError] = []

    def attempt(self, act: Callable[..., Plan], *arguments: Any) -> None:
        """Do one part."""
        try:
            self.done.extend(act(*arguments).actions)
        except StockyardError as error:
            self.errors.append(error)

    def plan(self) -> Plan:
        """All that was done.

        :raises StockyardError: with all that went wrong.
        """
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise StockyardError(
                f"{len(self.errors)} parts of the yard failed.",
                cause="; ".join(map(str, self.errors)),
            )
        return Plan(tuple(self.done))


def _fleet(ctx: Context, term: FleetTerm, built: dict[Key, Plan], seen: Observation) -> Plan:
    """The plan of one fleet, of the generation that its template will have."""
    todo = built.get((term.spec.tenant, term.spec.template), Plan())
    generation = None
    for action in todo.actions:
        if action.verb == "build":
            generation = UNKNOWN_GENERATION
        elif action.verb == "promote":
            generation = str(action.after["generation"])
    return converge_fleet.plan(replace(ctx, wait=term.wait), term.spec, seen, generation)


def _members(seen: Observation, key: Key) -> list[Host]:
    return [h for h in seen.hosts if (h.record.tenant, h.record.fleet) == key]


def _leave(left: dict[str, Host], fleet: Key, names: set[str]) -> None:
    """Strike hosts of a fleet off the list of those that stay."""
    for uuid, host in list(left.items()):
        if (host.record.tenant, host.record.fleet) == fleet and host.record.name in names:
            del left[uuid]


def _clear(ctx: Context, declared: Declaration, work: _Work, leaving: dict[Key, str]) -> None:
    """Take away what is not to be there any more: what is in something goes before it.

    :param leaving: the fleets that were to go when the run began. A fleet that another run made
        since then stays.
    """
    seen = ctx.provider.observe(ctx.owner)
    declared_names.tell_kept(ctx, declared, seen)
    for (tenant, name), reason in leaving.items():
        work.attempt(converge_fleet.remove, ctx, tenant, name, FleetTerm.timeout, reason)
    for term in declared.templates:
        work.attempt(build_template.tidy, ctx, term.spec, term.timeout)
    work.attempt(_remove_templates, ctx, declared)
    work.attempt(declared_pools.remove, ctx, declared)
    for tenant, name in declared.absent_volumes:
        work.attempt(volume_lifecycle.delete, ctx, tenant, name, VolumeTerm.timeout)


def _templates_to_go(declared: Declaration, seen: Observation, used: set[Key]) -> list[Action]:
    """Templates that go, all generations: none under a host, and none while something cannot be
    read.
    """
    going = {} if seen.unreadable else declared.templates_to_go(seen.templates)
    return [
        gone("template", key[1], going[key], _generations(seen, key))
        for key in going
        if key not in used
    ]


def _generations(seen: Observation, key: Key) -> dict[str, Any]:
    return {"generations": [t.record.generation[:12] for t in generations(*key, seen.templates)]}


def _remove_templates(ctx: Context, declared: Declaration) -> Plan:
    seen = ctx.provider.observe(ctx.owner)
    used = {(h.record.tenant, h.record.template) for h in seen.hosts}
    todo = _templates_to_go(declared, seen, used)
    going = {} if seen.unreadable else declared.templates_to_go(seen.templates)
    for (tenant, name), reason in going.items():
        if (tenant, name) not in used:
            build_template.remove(ctx, tenant, name, FleetTerm.timeout)
        elif reason == ABSENT:
            raise OperationRefused(
                "hosts live on it.", name=f"template {name}", remedy="destroy the hosts first"
            )
        else:
            ctx.progress(f"template {name}: {reason}, and stays: hosts live on it")
    return Plan(tuple(todo))
