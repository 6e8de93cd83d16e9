# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host by name: a single host, or a member of a fleet to restart, replace or delete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ...clock import Deadline
from ...errors import Conflict, NotFound, OperationRefused
from ...model.fleet import HOST_STATES, SingleSpec
from ...model.host import SUSPENDED, Host, HostSpec, host_domain
from ...model.naming import choice
from ...model.observation import Observation
from ...planning.lease_policy import is_held
from ...planning.plan import DECLARED_SUSPENDED, Plan, plan_host, plan_start
from .. import guest_status
from ..hosts import host_lifecycle, suspension, trust
from ..hosts.reservation import HostRequest, request_like
from ..templates import build_template
from .convergence import LOCK_WAIT, HostConvergence, with_guest_steps

# The states that suspend or resume an existing host, and change nothing else.
POWER_STATES = (SUSPENDED, "resumed")


@dataclass(frozen=True)
class SingleHostConvergence(HostConvergence):
    """The convergence of one host to a state.

    :param state: ``present``, ``absent``, ``restarted``, ``replaced``, ``suspended`` or
        ``resumed``.
    :param force: suspend the host although it is leased.
    :param shut_down: whether a host with a key in its memory is shut down instead of suspended;
        else it is refused.
    """

    spec: SingleSpec
    state: str
    force: bool = False
    shut_down: bool = False
    kind = "host"

    def __post_init__(self) -> None:
        choice("state", self.state, HOST_STATES)

    @property
    def keeps_hosts(self) -> bool:
        """Return whether the host runs afterwards."""
        return self.state not in ("absent", SUSPENDED)

    @contextmanager
    def observed(self, deadline: Deadline) -> Iterator[Observation]:
        """Hold the lock of the host, or of the fleet that it belongs to; the value is an
        observation that was made under the lock.

        :raises Conflict: if the host became the member of another fleet in the meantime.
        """
        ctx, spec = self.ctx, self.spec
        fleet = self._fleet(ctx.provider.observe(ctx.owner))
        kind, name = ("fleet", fleet) if fleet else ("host", spec.name)
        lock = ctx.lock_name(kind, spec.tenant, name)
        with ctx.provider.exclusive(lock, deadline.within(LOCK_WAIT)):
            observation = ctx.provider.observe(ctx.owner)
            if self._fleet(observation) not in (fleet, ""):
                raise Conflict(
                    "it became the member of another fleet.", name=self.title, remedy="run again"
                )
            yield observation

    def hosts(self, observation: Observation) -> list[Host]:
        """Return the host, if it exists."""
        host = self._host(observation)
        return [host] if host else []

    def template_name(self, observation: Observation) -> str:
        """Return the declared template, or that of the host."""
        host = self._host(observation)
        return self.spec.template or (host.record.template if host else "")

    def host_spec(self, observation: Observation) -> HostSpec:
        """Return the declaration of a new host."""
        return self._request(observation).spec

    def desired(self, observation: Observation, generation: str) -> Plan:
        """Return the plan before a new host is admitted.

        :raises NotFound: if the host does not exist, and no template is declared.
        :raises OperationRefused: if ``present`` names a member of a fleet: the fleet's declaration
            applies.
        """
        ctx, spec, state = self.ctx, self.spec, self.state
        host = self._host(observation)
        # A new host of this name is refused as those of other machines are.
        if host is None and state != "present":
            self._check_readable(observation)
        self._check_state(host)
        if host and state in POWER_STATES:
            self._check_complete(host)
            if state == SUSPENDED:
                return suspension.plan(ctx, [host], DECLARED_SUSPENDED, shut_down=self.shut_down)
            return plan_start(host)
        if not self.keeps_hosts:
            return plan_host(spec, state, generation, host)
        current_trust = trust.current(ctx, spec.tenant, observation.hosts)
        todo = plan_host(spec, state, generation, host, current_trust)
        hosts = self.hosts(observation)
        return with_guest_steps(todo, hosts, guest_status.statuses(ctx, hosts))

    def carry_out(self, todo: Plan, observation: Observation, deadline: Deadline) -> None:
        """Carry out a plan."""
        host = self._host(observation)
        record = host.record if host else None
        for action in todo.actions:
            if record and action.verb in host_lifecycle.IN_PLACE:
                record = host_lifecycle.update_in_place(
                    self.ctx, record, action.verb, self.spec.labels, self.spec.host, deadline
                )
            elif record and action.verb == "delete":
                host_lifecycle.destroy(self.ctx, record)
            else:
                self._create(observation, deadline)

    def _create(self, observation: Observation, deadline: Deadline) -> None:
        """Create a host, and delete the old one first if it exists."""
        host = self._host(observation)
        name = self.template_name(observation)
        template = build_template.get_current(self.spec.tenant, name, observation)
        if host:
            host_lifecycle.destroy(self.ctx, host.record)
        host_lifecycle.create_host(self.ctx, self._request(observation), template, deadline)

    def _request(self, observation: Observation) -> HostRequest:
        """Return the request for a new host.

        A member of a fleet keeps the declaration of its fleet. A host that is only named, without a
        declaration, keeps its own.
        """
        spec, host = self.spec, self._host(observation)
        if host and (host.record.fleet or (self.state != "present" and not spec.template)):
            return request_like(host.record)
        return HostRequest(spec.tenant, "", spec.name, spec.host, spec.labels, spec.ttl)

    def _check_state(self, host: Host | None) -> None:
        spec, state = self.spec, self.state
        if host is None and state == "restarted" and not spec.template:
            raise NotFound(
                "the host does not exist, so it cannot be restarted.",
                name=f"host {spec.name}",
                remedy="declare a template to create the host",
            )
        if host is None and state in POWER_STATES:
            raise NotFound("the host does not exist.", name=f"host {spec.name}")
        if host is not None and host.record.fleet and state == "present":
            raise OperationRefused(
                f"the host belongs to fleet {host.record.fleet}.",
                name=host.record.title,
                remedy="change the fleet's declaration, or use restarted, replaced, suspended, "
                "resumed or absent",
            )
        if state != "absent" and not (host or spec.template):
            raise NotFound(
                "the host does not exist.",
                name=f"host {spec.name}",
                remedy="declare a template to create the host",
            )

    def _check_readable(self, observation: Observation) -> None:
        """Refuse a host whose record cannot be read: it exists, and nothing changes it."""
        domain = host_domain(self.ctx.owner, self.spec.tenant, self.spec.name)
        for item in observation.unreadable:
            if item.name == domain:
                raise OperationRefused(
                    "the host exists, and its record cannot be read.",
                    name=f"host {self.spec.name}",
                    cause=item.reason,
                    remedy="use the version of stockyard that wrote the record",
                )

    def _check_complete(self, host: Host) -> None:
        """Refuse to suspend or resume an incomplete host, and to suspend a leased one without
        ``force``.
        """
        record = host.record
        if record.phase != "ready":
            raise OperationRefused(
                f"the host is {record.phase}, and only a complete host can be {self.state}.",
                name=record.title,
                remedy="converge the host first",
            )
        held = record.lease is not None and is_held(record, self.ctx.clock.now())
        if record.lease and held and self.state == SUSPENDED and not self.force:
            raise OperationRefused(
                f"the host is leased by {record.lease.holder}.",
                name=record.title,
                remedy="let the holder suspend it, or set force",
            )

    def _host(self, observation: Observation) -> Host | None:
        return observation.host(self.spec.tenant, self.spec.name)

    def _fleet(self, observation: Observation) -> str:
        host = self._host(observation)
        return host.record.fleet if host else ""
