# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host by name: its own, or a member of a fleet that is restarted, replaced or taken away."""

from __future__ import annotations

from contextlib import AbstractContextManager

from ...clock import Deadline
from ...errors import NotFound, OperationRefused
from ...model.fleet import HOST_STATES, SingleSpec
from ...model.host import Host
from ...model.naming import choice
from ...model.observation import Observation, Template
from ...planning.plan import UNKNOWN_GENERATION, Plan, plan_host, synchronizing, unlocking
from ...planning.templates import generations, newest
from .. import guest_status
from ..context import Context
from ..hosts import access, egress, host_lifecycle, reservation, trust
from ..pools import pool_lifecycle
from ..templates import build_template
from ..volumes import declared, encryption
from .preflight import admit

LOCK_WAIT = 5.0


def plan(ctx: Context, spec: SingleSpec, state: str) -> Plan:
    """What :func:`converge` would do. Writes nothing."""
    choice("state", state, HOST_STATES)
    seen = ctx.provider.observe(ctx.owner)
    todo = _planned(ctx, spec, state, seen)
    host_lifecycle.check_starts(
        ctx, todo, (h for h in seen.hosts if h.record.tenant == spec.tenant)
    )
    if spec.template:
        build_template.tell_missing(
            ctx, f"host {spec.name}", spec.tenant, spec.template, todo, seen
        )
    return todo


def converge(ctx: Context, spec: SingleSpec, state: str, timeout: float) -> Plan:
    """Bring one host into a state. Returns what was done.

    :raises Refused: when ``present`` names a member of a fleet: the fleet's declaration rules it.
    :raises Busy: when another controller is at work on it.
    """
    choice("state", state, HOST_STATES)
    deadline = ctx.deadline(timeout)
    before = _find(ctx.provider.observe(ctx.owner), spec)
    with _held(ctx, spec, before, deadline):
        seen = ctx.provider.observe(ctx.owner)
        host = _find(seen, spec)
        todo = _planned(ctx, spec, state, seen)
        if state != "absent":
            trust.prepare(ctx, spec.tenant, seen.hosts)
        _apply(ctx, spec, state, todo, host, deadline)
        access.sync_known_hosts(ctx, spec.tenant)
        if host and not todo:
            egress.mend(ctx, [host], deadline)
        return todo


def _planned(ctx: Context, spec: SingleSpec, state: str, seen: Observation) -> Plan:
    host = _find(seen, spec)
    template = _template(seen, spec, host)
    _refuse_nonsense(spec, state, host)
    wanted = trust.current(ctx, spec.tenant, seen.hosts) if state != "absent" else None
    todo = plan_host(
        spec, state, template.record.generation if template else UNKNOWN_GENERATION, host, wanted
    )
    if host and state != "absent":
        answers = guest_status.statuses(ctx, [host])
        todo = unlocking(todo, encryption.locked([host], answers))
        reason = guest_status.skewed([host], answers).get(host.record.uuid)
        todo = synchronizing(todo, {host.record.name: reason} if reason else {})
    wish = _order(spec, state, host).spec
    fitted = pool_lifecycle.fit(seen, spec.tenant, wish, template, todo, [host] if host else [])
    if fitted.rejected:
        raise pool_lifecycle.refusal(f"host {spec.name}", fitted, "Nothing is changed.")
    admit(ctx, spec.tenant, wish, todo, seen, template)
    declared.validate_plan(
        ctx, spec.tenant, template.record.name if template else "", wish, todo, seen
    )
    return todo


def _refuse_nonsense(spec: SingleSpec, state: str, host: Host | None) -> None:
    if host is None and state == "restarted" and not spec.template:
        raise NotFound(
            "there is no such host to restart.",
            name=f"host {spec.name}",
            remedy="name a template to make it",
        )
    if host is not None and host.record.fleet and state == "present":
        raise OperationRefused(
            f"it belongs to fleet {host.record.fleet}.",
            name=host.record.title,
            remedy="change the fleet's declaration, or use restarted, replaced or absent",
        )
    if state != "absent" and not (host or spec.template):
        raise NotFound(
            "there is no such host.", name=f"host {spec.name}", remedy="name a template to make it"
        )


def _apply(
    ctx: Context, spec: SingleSpec, state: str, todo: Plan, host: Host | None, deadline: Deadline
) -> None:
    record = host.record if host else None
    for action in todo.actions:
        if record and action.verb in host_lifecycle.IN_PLACE:
            record = host_lifecycle.update_in_place(
                ctx, record, action.verb, spec.labels, spec.host, deadline
            )
        elif record and action.verb == "destroy":
            host_lifecycle.destroy(ctx, record)
        else:
            _make(ctx, spec, state, host, deadline)


def _make(ctx: Context, spec: SingleSpec, state: str, old: Host | None, deadline: Deadline) -> None:
    """Create a host, in the place of an old one if there is one.

    A member of a fleet stays what its fleet made it, and so does a host that is only named: nothing
    was declared of it.
    """
    name = spec.template or (old.record.template if old else "")
    template = build_template.need(spec.tenant, name, ctx.provider.observe(ctx.owner))
    if old is not None:
        host_lifecycle.destroy(ctx, old.record)
    host_lifecycle.create_host(ctx, _order(spec, state, old), template, deadline)


def _order(spec: SingleSpec, state: str, old: Host | None) -> reservation.HostRequest:
    if old is not None and (old.record.fleet or (state != "present" and not spec.template)):
        return reservation.request_like(old.record)
    return reservation.HostRequest(spec.tenant, "", spec.name, spec.host, spec.labels, spec.ttl)


def _find(seen: Observation, spec: SingleSpec) -> Host | None:
    return next(
        (h for h in seen.hosts if (h.record.tenant, h.record.name) == (spec.tenant, spec.name)),
        None,
    )


def _template(seen: Observation, spec: SingleSpec, host: Host | None) -> Template | None:
    name = spec.template or (host.record.template if host else "")
    return newest(generations(spec.tenant, name, seen.templates))


def _held(
    ctx: Context, spec: SingleSpec, host: Host | None, deadline: Deadline
) -> AbstractContextManager[None]:
    """A member is held with its fleet."""
    kind, name = ("fleet", host.record.fleet) if host and host.record.fleet else ("host", spec.name)
    return ctx.provider.exclusive(
        ctx.lock_name(kind, spec.tenant, name), deadline.within(LOCK_WAIT)
    )
