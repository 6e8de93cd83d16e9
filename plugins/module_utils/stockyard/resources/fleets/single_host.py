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
from ...model.host import Host, HostSpec
from ...model.naming import choice
from ...model.observation import Observation
from ...planning.plan import Plan, plan_host
from .. import guest_status
from ..hosts import host_lifecycle, trust
from ..hosts.reservation import HostRequest, request_like
from ..templates import build_template
from .convergence import LOCK_WAIT, HostConvergence, with_guest_steps


@dataclass(frozen=True)
class SingleHostConvergence(HostConvergence):
    """The convergence of one host to a state.

    :param state: ``present``, ``absent``, ``restarted`` or ``replaced``.
    """

    spec: SingleSpec
    state: str
    kind = "host"

    def __post_init__(self) -> None:
        choice("state", self.state, HOST_STATES)

    @property
    def keeps_hosts(self) -> bool:
        """Return whether the host exists afterwards."""
        return self.state != "absent"

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
        self._check_state(host)
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

    def _host(self, observation: Observation) -> Host | None:
        return observation.host(self.spec.tenant, self.spec.name)

    def _fleet(self, observation: Observation) -> str:
        host = self._host(observation)
        return host.record.fleet if host else ""
