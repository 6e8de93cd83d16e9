# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The convergence of a whole yard to its declaration: pools, templates, volumes, then fleets and
endpoints, then deletions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeAlias

from ...clock import Deadline
from ...errors import NotFound, OperationRefused, StockyardError, joined
from ...model.host import Host
from ...model.observation import Observation
from ...planning.declaration import (
    ABSENT,
    Declaration,
    EndpointTerm,
    FleetTerm,
    Key,
    PoolTerm,
    TemplateTerm,
    VolumeTerm,
    gone_by,
)
from ...planning.plan import UNKNOWN_GENERATION, Action, Plan, delete_action, plan_deletion
from ..context import Context
from ..endpoints.endpoint_lifecycle import EndpointConvergence, EndpointDeletion
from ..fleets.converge_fleet import FleetConvergence, FleetDeletion, hosts_to_delete
from ..fleets.suspend_fleet import FleetSuspension
from ..pools.pool_lifecycle import PoolConvergence
from ..templates.build_template import TemplateConvergence, TemplateDeletion
from ..volumes.volume_lifecycle import VolumeConvergence, VolumeDeletion
from . import declared_endpoints, declared_names, declared_pools, declared_volumes, pruning

Apply: TypeAlias = Callable[[Deadline], Plan]


@dataclass(frozen=True)
class YardConvergence:
    """The convergence of a yard to its declaration.

    :param confirmed: whether the plan is saved, or compared with a saved plan: then the user has
        read which fleets it deletes that are not declared.
    """

    ctx: Context
    declaration: Declaration
    confirmed: bool = False

    def plan(self) -> Plan:
        """Return the actions that :meth:`apply` would take now. Changes nothing."""
        return self.plan_from(self.ctx.provider.observe(self.ctx.owner))

    def check_packages(self, todo: Plan, observation: Observation) -> None:
        """Check that mirrors have the packages of all planned builds.

        :raises ImageError: if a package does not exist, or a mirror does not answer.
        """
        actions_by_template: dict[str, list[Action]] = {}
        for action in todo.actions:
            if action.kind == "template":
                actions_by_template.setdefault(action.name, []).append(action)
        plans = {name: Plan(tuple(actions)) for name, actions in actions_by_template.items()}
        for (_tenant, name), template in self._templates.items():
            parent_plan = plans.get(template.spec.parent, Plan())
            template.check_packages(
                plans.get(name, Plan()), observation, _generation_after(parent_plan)
            )

    def plan_from(self, observation: Observation) -> Plan:
        """Return the plan for an observation.

        Hosts whose template will have another generation are shown as replaced, although that
        generation does not exist yet.

        :raises NotFound: if the declaration needs a template, pool or volume that is neither
            declared nor existing.
        :raises OperationRefused: if it would delete a fleet that is not declared.
        """
        ctx, declaration = self.ctx, self.declaration
        declared_names.check(ctx, declaration, observation)
        pruning.check(ctx, declaration, observation, confirmed=self.confirmed)
        pool_actions, observation = declared_pools.planned(ctx, declaration, observation)
        # Planned as if no host used any generation: surplus ones that hosts use are left out below.
        template_plans: dict[Key, Plan] = {}
        for key, template in self._templates.items():
            parent_plan = template_plans.get((template.spec.tenant, template.spec.parent), Plan())
            template_plans[key] = template.plan_from(
                observation, frozenset(), _generation_after(parent_plan)
            )
        builds = [
            action
            for todo in template_plans.values()
            for action in todo.actions
            if action.verb != "delete"
        ]
        volume_actions = declared_volumes.plan(ctx, declaration, observation)
        fleet_actions, remaining_hosts = self._fleet_actions(observation, template_plans)
        endpoint_actions = declared_endpoints.planned(
            ctx,
            declaration,
            observation,
            {key: _generation_after(todo) for key, todo in template_plans.items()},
        )
        for key, todo in declared_endpoints.planned_deletions(
            ctx, declaration, observation
        ).items():
            endpoint_actions += todo.actions
            deleted_names = gone_by(todo.actions)
            remaining_hosts = [
                host
                for host in remaining_hosts
                if host.record.tenant != key[0] or host.name not in deleted_names
            ]
        deletions = self._deletions(observation, template_plans, remaining_hosts)
        return Plan(
            (
                *pool_actions,
                *builds,
                *volume_actions,
                *fleet_actions,
                *endpoint_actions,
                *deletions,
            )
        )

    def apply(self, _deadline: Deadline) -> Plan:
        """Converge the yard; return the actions that were taken. Each part has its own deadline.

        A part that fails does not stop the other parts; but then no object is deleted for lack of
        a declaration.

        :raises NotFound: before anything changes, if the declaration needs an object that is
            neither declared nor existing.
        :raises OperationRefused: before anything changes, if it would delete a fleet that is not
            declared.
        :raises StockyardError: with all errors.
        """
        ctx, declaration = self.ctx, self.declaration
        observation = ctx.provider.observe(ctx.owner)
        declared_names.check(ctx, declaration, observation)
        if not self.confirmed:
            pruning.check(ctx, declaration, observation, confirmed=False)
        work = _Work(ctx)
        for pool in declared_pools.early(declaration, observation):
            work.attempt(PoolConvergence(ctx, pool.spec).apply, pool.timeout)
        self._build_templates(work)
        for volume in declaration.volumes:
            work.attempt(VolumeConvergence(ctx, volume.spec).apply, volume.timeout)
        self._apply_fleets(work)
        for endpoint in declaration.endpoints:
            convergence = EndpointConvergence(ctx, endpoint.spec, endpoint.replace)
            title, tenant = f"endpoint {endpoint.spec.name}", endpoint.spec.tenant
            apply = work.of_template(convergence.apply, title, tenant, endpoint.spec.template)
            work.attempt(apply, endpoint.timeout)
        for pool in declared_pools.late(declaration, observation):
            work.attempt(PoolConvergence(ctx, pool.spec, pool.force).apply, pool.timeout)
        if not work.errors:
            # A fleet that another run created since the observation remains.
            self._clear(
                work,
                declaration.fleets_to_go(observation.hosts),
                declared_endpoints.endpoints_to_go(declaration, observation),
            )
        return work.plan()

    def _build_templates(self, work: _Work) -> None:
        """Converge the declared templates, parents first."""
        for term in self.declaration.parents_first:
            spec = term.spec
            apply = work.of_template(
                self._template(term).apply, f"template {spec.name}", spec.tenant, spec.parent
            )
            if not work.attempt(apply, term.timeout):
                work.failed_templates.add((spec.tenant, spec.name))

    def _apply_fleets(self, work: _Work) -> None:
        """Converge the declared fleets. Hosts are suspended first: others get their memory."""
        for suspended in self.declaration.suspended_fleets:
            suspension = FleetSuspension(self.ctx, suspended.tenant, suspended.name)
            work.attempt(suspension.apply, suspended.timeout)
        for fleet in self.declaration.working:
            context, spec = replace(self.ctx, wait=fleet.wait), fleet.spec
            convergence = FleetConvergence(context, spec)
            apply = work.of_template(
                convergence.apply, f"fleet {spec.name}", spec.tenant, spec.template
            )
            work.attempt(apply, fleet.timeout)

    @cached_property
    def _templates(self) -> dict[Key, TemplateConvergence]:
        """Return the convergence of each declared template, parents first; it renders the recipe
        once.
        """
        return {
            (term.spec.tenant, term.spec.name): TemplateConvergence(self.ctx, term.spec)
            for term in self.declaration.parents_first
        }

    def _template(self, term: TemplateTerm) -> TemplateConvergence:
        return self._templates[term.spec.tenant, term.spec.name]

    def _fleet_actions(
        self, observation: Observation, template_plans: Mapping[Key, Plan]
    ) -> tuple[list[Action], list[Host]]:
        """Return the actions on fleets, and the hosts that remain afterwards."""
        actions: list[Action] = []
        remaining_hosts = {host.record.uuid: host for host in observation.hosts}
        ctx = declared_volumes.ahead(self.ctx, self.declaration)
        for suspended in self.declaration.suspended_fleets:
            suspension = FleetSuspension(ctx, suspended.tenant, suspended.name)
            actions += suspension.plan_from(observation).actions
        for fleet in self.declaration.working:
            convergence = FleetConvergence(replace(ctx, wait=fleet.wait), fleet.spec)
            template_plan = template_plans.get((fleet.spec.tenant, fleet.spec.template), Plan())
            todo = convergence.plan_from(observation, _generation_after(template_plan))
            actions += todo.actions
            _leave(remaining_hosts, (fleet.spec.tenant, fleet.spec.name), gone_by(todo.actions))
        for key, reason in self.declaration.fleets_to_go(observation.hosts).items():
            members = hosts_to_delete(observation.members(*key), reason, ctx.clock.now())
            actions += plan_deletion((), members, reason).actions
            _leave(remaining_hosts, key, {host.record.name for host in members})
        return actions, list(remaining_hosts.values())

    def _deletions(
        self,
        observation: Observation,
        template_plans: Mapping[Key, Plan],
        remaining_hosts: list[Host],
    ) -> list[Action]:
        """Return the deletions of generations, templates, pools and volumes that no remaining host
        uses.
        """
        ctx, declaration = self.ctx, self.declaration
        used_generations = {
            (host.record.tenant, host.record.template, host.record.generation[:12])
            for host in remaining_hosts
        }
        actions = [
            action
            for key, todo in template_plans.items()
            for action in todo.actions
            if action.verb == "delete"
            and (*key, action.before["generation"]) not in used_generations
        ]
        used_templates = {(tenant, name) for tenant, name, _generation in used_generations}
        actions += _templates_to_go(declaration, observation, used_templates)
        declared_names.report_retained(ctx, declaration, observation)
        actions += declared_pools.planned_last(ctx, declaration, observation, remaining_hosts)
        return actions + declared_volumes.plan_deletions(declaration, observation)

    def _clear(
        self,
        work: _Work,
        fleets_to_delete: Mapping[Key, str],
        endpoints_to_delete: Mapping[Key, str],
    ) -> None:
        """Delete all objects that are no longer declared, each after the objects in it."""
        ctx, declaration = self.ctx, self.declaration
        for (tenant, name), reason in endpoints_to_delete.items():
            work.attempt(EndpointDeletion(ctx, tenant, name, reason).apply, EndpointTerm.timeout)
        for (tenant, name), reason in fleets_to_delete.items():
            work.attempt(FleetDeletion(ctx, tenant, name, reason).apply, FleetTerm.timeout)
        observation = ctx.provider.observe(ctx.owner)
        declared_names.report_retained(ctx, declaration, observation)
        for term in declaration.templates:
            if len(observation.generations(term.spec.tenant, term.spec.name)) > 1:
                work.attempt(self._template(term).tidy, term.timeout)
        work.attempt(partial(_remove_templates, ctx, declaration, observation), FleetTerm.timeout)
        work.attempt(
            partial(declared_pools.remove, ctx, declaration, observation), PoolTerm.timeout
        )
        for tenant, name in declaration.absent_volumes:
            work.attempt(VolumeDeletion(ctx, tenant, name).apply, VolumeTerm.timeout)


@dataclass
class _Work:
    """The actions of a run, and its errors."""

    ctx: Context
    actions: list[Action] = field(default_factory=list)
    errors: list[StockyardError] = field(default_factory=list)
    failed_templates: set[Key] = field(default_factory=set)

    def attempt(self, apply: Apply, timeout: float) -> bool:
        """Run one part, and keep its actions or its error. Return whether it succeeded."""
        try:
            self.actions.extend(apply(self.ctx.deadline(timeout)).actions)
        except StockyardError as error:
            self.errors.append(error)
            return False
        return True

    def of_template(self, apply: Apply, title: str, tenant: str, template: str) -> Apply:
        """Return a part whose missing template is explained by the failure of its build in this
        run: the remedy is then that of the template, not a declaration.

        :param title: the object that needs the template.
        """

        def explained(deadline: Deadline) -> Plan:
            try:
                return apply(deadline)
            except NotFound as error:
                observation = self.ctx.provider.observe(self.ctx.owner)
                if (tenant, template) not in self.failed_templates or observation.template(
                    tenant, template
                ):
                    raise
                raise StockyardError(
                    "its template could not be built.",
                    name=title,
                    cause=f"see the error of template {template}",
                    remedy=f"correct template {template}, then run again",
                ) from error

        return explained

    def plan(self) -> Plan:
        """Return all actions that were taken.

        :raises StockyardError: with all errors.
        """
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise joined(f"{len(self.errors)} parts of the yard failed.", self.errors)
        return Plan(tuple(self.actions))


def _generation_after(template_plan: Plan) -> str | None:
    """Return the generation that a template will have; ``None`` if it does not change."""
    generation = None
    for action in template_plan.actions:
        if action.verb == "build":
            generation = UNKNOWN_GENERATION
        elif action.verb in ("load", "promote"):
            generation = str(action.after["generation"])
    return generation


def _leave(remaining_hosts: dict[str, Host], fleet: Key, names: set[str]) -> None:
    """Remove hosts of a fleet from the remaining hosts."""
    for uuid, host in list(remaining_hosts.items()):
        if (host.record.tenant, host.record.fleet) == fleet and host.record.name in names:
            del remaining_hosts[uuid]


def _templates_to_go(
    declaration: Declaration, observation: Observation, used_keys: set[Key]
) -> list[Action]:
    """Return the deletions of templates, with all their generations: no template that a host uses,
    and none while a record cannot be read.
    """
    reasons = {} if observation.unreadable else declaration.templates_to_go(observation.templates)
    return [
        delete_action("template", key[1], reasons[key], _generations(observation, key))
        for key in reasons
        if key not in used_keys
    ]


def _generations(observation: Observation, key: Key) -> dict[str, Any]:
    return {
        "generations": [
            template.record.generation[:12] for template in observation.generations(*key)
        ]
    }


def _remove_templates(
    ctx: Context, declaration: Declaration, observation: Observation, deadline: Deadline
) -> Plan:
    used_keys = {(host.record.tenant, host.record.template) for host in observation.hosts}
    todo = _templates_to_go(declaration, observation, used_keys)
    reasons = {} if observation.unreadable else declaration.templates_to_go(observation.templates)
    for (tenant, name), reason in reasons.items():
        if (tenant, name) not in used_keys:
            TemplateDeletion(ctx, tenant, name).apply(deadline)
        elif reason == ABSENT:
            raise OperationRefused(
                "hosts of the template exist.",
                name=f"template {name}",
                remedy="delete the hosts first",
            )
        else:
            ctx.progress(f"template {name}: {reason}; retained, because hosts of it exist")
    return Plan(tuple(todo))
