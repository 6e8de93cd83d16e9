# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets and single hosts: made to be as declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from ..core.clock import Deadline
from ..core.fleet import FleetSpec
from ..core.host import Host, HostRecord, host_domain
from ..core.plan import UNKNOWN_GENERATION, Action, Plan, generations, newest, plan_destroy, plan_fleet
from ..core.provider import Observation, Template
from ..errors import StockyardError
from . import access, egress, hosts, templates, trust
from .admit import admit
from .context import Context

LOCK_WAIT = 5.0
Work = Callable[[], object]


def plan(ctx: Context, spec: FleetSpec, seen: Observation | None = None) -> Plan:
    """What :func:`converge` would do. Writes nothing, and works when the template does not exist yet."""
    seen = seen or ctx.provider.observe(ctx.owner)
    template = newest(generations(spec.tenant, spec.template, seen.templates))
    generation = template.record.generation if template else UNKNOWN_GENERATION
    prefix = host_domain(ctx.owner, spec.tenant, "")
    taken = (name.removeprefix(prefix) for name in seen.names if name.startswith(prefix))
    wanted = trust.current(ctx, spec.tenant, seen.hosts)
    todo = plan_fleet(spec, generation, seen.hosts, taken, wanted, ctx.clock.now())
    admit(ctx, spec.tenant, spec.host, todo, seen)
    return todo


def converge(ctx: Context, spec: FleetSpec, timeout: float) -> Plan:
    """Make a fleet as it is declared. Returns what was done.

    :param timeout: seconds for everything.
    :raises Busy: when another controller is at work on it.
    """
    deadline = ctx.deadline(timeout)
    with _held(ctx, spec.tenant, spec.name, deadline):
        seen = ctx.provider.observe(ctx.owner)
        template = templates.need(spec.tenant, spec.template, seen) if spec.least else None
        todo = plan(ctx, spec, seen)
        if spec.least:
            trust.prepare(ctx, spec.tenant, seen.hosts)
        try:
            _apply(ctx, spec, todo, seen.hosts, template, deadline)
        finally:
            # Where some failed, the others can be used.
            access.publish(ctx, spec.tenant)
        if spec.host.egress == "proxy":
            egress.mend(ctx, members(ctx, spec.tenant, spec.name), deadline)
        return todo


def plan_removal(ctx: Context, tenant: str, name: str) -> Plan:
    """What :func:`remove` would do."""
    return plan_destroy((), members(ctx, tenant, name), "it is to be absent")


def remove(ctx: Context, tenant: str, name: str, timeout: float) -> Plan:
    """Take all hosts of a fleet away."""
    deadline = ctx.deadline(timeout)
    with _held(ctx, tenant, name, deadline):
        todo, mine = plan_removal(ctx, tenant, name), members(ctx, tenant, name)
        each(ctx, [_destroyer(ctx, h, hosts.destroy) for h in mine])
        access.publish(ctx, tenant)
        return todo


def members(ctx: Context, tenant: str, name: str) -> list[Host]:
    """The hosts of a fleet, half-made ones included."""
    return [h for h in ctx.provider.observe(ctx.owner).hosts if (h.record.tenant, h.record.fleet) == (tenant, name)]


def _held(ctx: Context, tenant: str, name: str, deadline: Deadline) -> AbstractContextManager[None]:
    return ctx.provider.exclusive(ctx.lock_name("fleet", tenant, name), deadline.within(LOCK_WAIT))


def _apply(
    ctx: Context, spec: FleetSpec, todo: Plan, found: Iterable[Host], template: Template | None, deadline: Deadline
) -> None:
    """Destroy first (names may be given again), then all that makes or mends hosts, a few at a time."""
    there = {h.record.name: h for h in found if (h.record.tenant, h.record.fleet) == (spec.tenant, spec.name)}
    first = [a for a in todo.actions if a.verb == "destroy"]
    each(ctx, [_destroyer(ctx, there[a.name], hosts.retire) for a in first])
    rest: dict[str, list[Action]] = {}
    for action in todo.actions:
        if action.verb != "destroy":
            rest.setdefault(action.name, []).append(action)
    each(ctx, [_doer(ctx, spec, do, there.get(name), template, deadline) for name, do in rest.items()])


def _doer(
    ctx: Context,
    spec: FleetSpec,
    actions: list[Action],
    host: Host | None,
    template: Template | None,
    deadline: Deadline,
) -> Work:
    """What is to be done to one host, one after the other."""

    def do() -> None:
        record = host.record if host else None
        for action in actions:
            if record and action.verb in hosts.MENDING:
                record = hosts.mend(ctx, record, action.verb, spec.labels, deadline)
            elif template:
                if record and action.verb == "replace" and not hosts.retire(ctx, record):
                    return
                order = hosts.Order(spec.tenant, spec.name, action.name, spec.host, spec.labels, spec.ttl)
                hosts.provision(ctx, order, template, deadline)

    return do


def _destroyer(ctx: Context, host: Host, act: Callable[[Context, HostRecord], object]) -> Work:
    return lambda: act(ctx, host.record)


def each(ctx: Context, work: list[Work]) -> None:
    """Do all of it, as many at once as the hypervisor serves well; then raise what went wrong, all of it."""
    with ThreadPoolExecutor(max_workers=max(1, ctx.provider.capabilities.parallel)) as pool:
        futures = [pool.submit(one) for one in work]
    errors = [e for e in (f.exception() for f in futures) if e is not None]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise StockyardError(f"{len(errors)} of {len(work)} hosts failed.", cause="; ".join(str(e) for e in errors))
