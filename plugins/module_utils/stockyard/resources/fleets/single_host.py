# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host by name: a single host, or a member of a fleet to restart, replace or delete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...clock import Deadline
from ...errors import Conflict, NotFound, OperationRefused
from ...model.fleet import HOST_STATES, SingleSpec
from ...model.host import Host
from ...model.naming import choice
from ...model.observation import Observation, Template
from ...planning.plan import UNKNOWN_GENERATION, Plan, plan_host, synchronizing, unlocking
from .. import guest_status
from ..context import Context
from ..hosts import access, egress, host_lifecycle, reservation, trust
from ..pools import pool_lifecycle
from ..templates import build_template
from ..volumes import declared, encryption
from .preflight import admit

LOCK_WAIT = 5.0


def plan(ctx: Context, spec: SingleSpec, state: str) -> Plan:
    """Return the plan of :func:`converge`. Changes nothing."""
    choice("state", state, HOST_STATES)
    observation = ctx.provider.observe(ctx.owner)
    todo = _planned(ctx, spec, state, observation)
    host_lifecycle.check_starts(ctx, todo, observation.of_tenant(spec.tenant))
    if spec.template:
        build_template.tell_missing(
            ctx, f"host {spec.name}", spec.tenant, spec.template, todo, observation
        )
    return todo


def converge(ctx: Context, spec: SingleSpec, state: str, timeout: float) -> Plan:
    """Converge one host to a state. Returns the actions that were taken.

    :raises OperationRefused: if ``present`` names a member of a fleet: the fleet's declaration
        applies.
    :raises Busy: if another controller works on the host.
    """
    choice("state", state, HOST_STATES)
    deadline = ctx.deadline(timeout)
    with _observed(ctx, spec, deadline) as observation:
        host = observation.host(spec.tenant, spec.name)
        todo = _planned(ctx, spec, state, observation)
        if state != "absent":
            trust.prepare(ctx, spec.tenant, observation.hosts)
        _apply(ctx, spec, state, todo, observation, deadline)
        access.sync_known_hosts(ctx, spec.tenant)
        if host and not todo:
            egress.mend(ctx, [host], deadline)
        return todo


def _planned(ctx: Context, spec: SingleSpec, state: str, observation: Observation) -> Plan:
    host = observation.host(spec.tenant, spec.name)
    template = _template(observation, spec, host)
    _refuse_nonsense(spec, state, host)
    current_trust = (
        trust.current(ctx, spec.tenant, observation.hosts) if state != "absent" else None
    )
    todo = plan_host(
        spec,
        state,
        template.record.generation if template else UNKNOWN_GENERATION,
        host,
        current_trust,
    )
    if host and state != "absent":
        statuses = guest_status.statuses(ctx, [host])
        todo = unlocking(todo, encryption.locked([host], statuses))
        reason = guest_status.skewed([host], statuses).get(host.record.uuid)
        todo = synchronizing(todo, {host.record.name: reason} if reason else {})
    host_spec = _order(spec, state, host).spec
    admitted = pool_lifecycle.fit(
        observation, spec.tenant, host_spec, template, todo, [host] if host else []
    )
    if admitted.rejected:
        raise pool_lifecycle.refusal(f"host {spec.name}", admitted, "Nothing was changed.")
    admit(ctx, spec.tenant, host_spec, todo, observation, template)
    declared.validate_plan(
        ctx, spec.tenant, template.record.name if template else "", host_spec, todo, observation
    )
    return todo


def _refuse_nonsense(spec: SingleSpec, state: str, host: Host | None) -> None:
    if host is None and state == "restarted" and not spec.template:
        raise NotFound(
            "the host does not exist, so it cannot be restarted.",
            name=f"host {spec.name}",
            remedy="declare a template to create the host",
        )
    if host is not None and host.record.fleet and state == "present":
        raise OperationRefused(
            f"the host belongs to fleet {host.record.fleet}.",
            name=host.record.title,
            remedy="change the fleet's declaration, or use restarted, replaced or absent",
        )
    if state != "absent" and not (host or spec.template):
        raise NotFound(
            "the host does not exist.",
            name=f"host {spec.name}",
            remedy="declare a template to create the host",
        )


def _apply(
    ctx: Context,
    spec: SingleSpec,
    state: str,
    todo: Plan,
    observation: Observation,
    deadline: Deadline,
) -> None:
    host = observation.host(spec.tenant, spec.name)
    record = host.record if host else None
    for action in todo.actions:
        if record and action.verb in host_lifecycle.IN_PLACE:
            record = host_lifecycle.update_in_place(
                ctx, record, action.verb, spec.labels, spec.host, deadline
            )
        elif record and action.verb == "delete":
            host_lifecycle.destroy(ctx, record)
        else:
            _make(ctx, spec, state, observation, deadline)


def _make(
    ctx: Context, spec: SingleSpec, state: str, observation: Observation, deadline: Deadline
) -> None:
    """Create a host, and delete the old one first if it exists.

    A member of a fleet keeps the declaration of its fleet. A host that is only named, without a
    declaration, keeps its own.
    """
    old_host = observation.host(spec.tenant, spec.name)
    name = spec.template or (old_host.record.template if old_host else "")
    template = build_template.need(spec.tenant, name, observation)
    if old_host is not None:
        host_lifecycle.destroy(ctx, old_host.record)
    host_lifecycle.create_host(ctx, _order(spec, state, old_host), template, deadline)


def _order(spec: SingleSpec, state: str, old_host: Host | None) -> reservation.HostRequest:
    if old_host is not None and (
        old_host.record.fleet or (state != "present" and not spec.template)
    ):
        return reservation.request_like(old_host.record)
    return reservation.HostRequest(spec.tenant, "", spec.name, spec.host, spec.labels, spec.ttl)


def _template(observation: Observation, spec: SingleSpec, host: Host | None) -> Template | None:
    name = spec.template or (host.record.template if host else "")
    return observation.template(spec.tenant, name)


@contextmanager
def _observed(ctx: Context, spec: SingleSpec, deadline: Deadline) -> Iterator[Observation]:
    """Lock a host, or the fleet that it belongs to; yield an observation that was made under the
    lock.

    :raises Conflict: if the host became the member of another fleet in the meantime.
    """
    fleet = _fleet(ctx.provider.observe(ctx.owner), spec)
    kind, name = ("fleet", fleet) if fleet else ("host", spec.name)
    lock = ctx.lock_name(kind, spec.tenant, name)
    with ctx.provider.exclusive(lock, deadline.within(LOCK_WAIT)):
        observation = ctx.provider.observe(ctx.owner)
        if _fleet(observation, spec) not in (fleet, ""):
            raise Conflict(
                "it became the member of another fleet.",
                name=f"host {spec.name}",
                remedy="run again",
            )
        yield observation


def _fleet(observation: Observation, spec: SingleSpec) -> str:
    host = observation.host(spec.tenant, spec.name)
    return host.record.fleet if host else ""
