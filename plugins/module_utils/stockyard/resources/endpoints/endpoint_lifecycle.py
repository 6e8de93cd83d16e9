# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints: recorded with their image host, described, and deleted with their machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...clock import Deadline
from ...errors import Conflict, NotFound, OperationRefused
from ...model import codec
from ...model.access_info import export_line
from ...model.container_machine import ENDPOINT_LABEL, FACTS_PREFIX
from ...model.endpoint import EndpointSpec
from ...model.endpoint_info import EndpointInfo, EndpointMachine
from ...model.endpoint_record import EndpointRecord
from ...model.fleet import SingleSpec
from ...model.host import Host, HostRecord
from ...model.observation import Observation
from ...planning.bound_socket import check_bindable
from ...planning.plan import Action, Plan, delete_action, plan_deletion
from ..context import Context
from ..fleets.branch_host import template_of
from ..fleets.single_host import SingleHostConvergence
from ..hosts import access, host_lifecycle
from ..operation import LockedOperation
from .image_host import ImageHostConvergence, image_host

ABSENT = "it is declared absent"
CONTAINER = f"{FACTS_PREFIX}container"


@dataclass(frozen=True)
class EndpointConvergence(LockedOperation):
    """The convergence of an endpoint to its declaration.

    :param replace: whether the image host is replaced, and its images are lost, if only that makes
        it as declared.
    """

    spec: EndpointSpec
    replace: bool = False

    @property
    def lock(self) -> str:
        """Return the lock of the endpoint."""
        return self.ctx.lock_name("endpoint", self.spec.tenant, self.spec.name)

    def plan_from(self, observation: Observation, generation: str | None = None) -> Plan:
        """Return the plan for an observation.

        :param generation: the generation that the template will have, if it differs from the
            current one.
        :raises NotFound: if the image host does not exist, and no template is declared.
        :raises OperationRefused: if the change would be refused.
        """
        self._check(observation)
        host_plan = Plan()
        if self.spec.template:
            host_plan = self._image_host.plan_from(observation, generation)
        return Plan((*host_plan.actions, *self._record_actions(observation, host_plan)))

    def carry_out(self, todo: Plan, observation: Observation, deadline: Deadline) -> Plan:
        """Converge the image host, and record the endpoint in its record."""
        ctx, spec = self.ctx, self.spec
        if any(action.kind == "host" for action in todo.actions):
            self._image_host.apply(deadline)
        for action in todo.actions:
            if action.kind == "endpoint":
                with locked(ctx, spec.tenant, spec.image_host, deadline) as record:
                    if record is None:
                        raise NotFound(
                            "the image host was deleted.", name=f"host {spec.image_host}"
                        )
                    ctx.provider.claim(record, endpoint=spec.record)
                ctx.progress(f"endpoint {spec.name}: {action.verb}d")
        return todo

    @property
    def _image_host(self) -> ImageHostConvergence:
        return image_host(self.ctx, self.spec, replace=self.replace)

    def _record_actions(self, observation: Observation, host_plan: Plan) -> list[Action]:
        host = observation.host(self.spec.tenant, self.spec.image_host)
        existing = host.record.endpoint if host else None
        verbs = {action.verb for action in host_plan.actions}
        after = _values(self.spec.image_host, self.spec.record)
        # The record of a replaced host is a new one.
        if existing == self.spec.record and "replace" not in verbs:
            return []
        if existing is None:
            return [Action("create", "endpoint", self.spec.name, "it does not exist", {}, after)]
        before = _values(self.spec.image_host, existing)
        differing = ", ".join(sorted(key for key in after if after[key] != before[key]))
        reason = f"{differing} changed" if differing else "its image host is replaced"
        return [Action("change", "endpoint", self.spec.name, reason, before, after)]

    def _check(self, observation: Observation) -> None:
        """Refuse an image host that cannot be one, and places that another endpoint has."""
        spec = self.spec
        host = observation.host(spec.tenant, spec.image_host)
        if host is None and not spec.template:
            raise NotFound(
                "the image host does not exist.",
                name=f"host {spec.image_host}",
                remedy="declare a template, or create the host",
            )
        if host:
            _check_image_host(spec, host)
        if spec.socket_in_containers:
            _check_bindable(spec, observation)
        for host_of_other in recorded(observation):
            _check_other(spec, host_of_other)


def _check_image_host(spec: EndpointSpec, host: Host) -> None:
    record = host.record
    if record.fleet:
        raise OperationRefused(
            f"the host belongs to fleet {record.fleet}, which can replace it.",
            name=record.title,
            remedy="name another image host",
        )
    if ENDPOINT_LABEL in record.labels:
        raise OperationRefused(
            f"the host is a machine of endpoint {record.labels[ENDPOINT_LABEL]}.",
            name=record.title,
            remedy="name another image host",
        )
    if record.endpoint and record.endpoint.name != spec.name:
        raise OperationRefused(
            f"the host holds the images of endpoint {record.endpoint.name}.",
            name=record.title,
            remedy="name another image host",
        )


def _check_bindable(spec: EndpointSpec, observation: Observation) -> None:
    """Refuse to give the socket to containers that are not trusted."""
    host = observation.host(spec.tenant, spec.image_host)
    template = observation.template(spec.tenant, spec.template)
    if host:
        template = template_of(observation, host)
    if template:
        check_bindable(template.record.profile, host.record if host else None)


def _check_other(spec: EndpointSpec, host: Host) -> None:
    record, endpoint = host.record, host.record.endpoint
    if endpoint is None or (record.tenant, record.name) == (spec.tenant, spec.image_host):
        return
    if (record.tenant, endpoint.name) == (spec.tenant, spec.name):
        raise OperationRefused(
            f"the images of the endpoint are on host {record.name}, and cannot move to "
            f"{spec.image_host}.",
            name=f"endpoint {spec.name}",
            remedy="delete the endpoint first, or give the other one another name",
        )
    taken_places = {*endpoint.places} & {*spec.record.places}
    if taken_places:
        raise Conflict(
            f"endpoint {endpoint.name} of tenant {record.tenant} is served at {min(taken_places)}.",
            name=f"endpoint {spec.name}",
            remedy="name another socket, address or port",
        )


@dataclass(frozen=True)
class EndpointDeletion(LockedOperation):
    """The deletion of an endpoint with its machines, and with its image host if that was created
    for it. Machines without an endpoint on record are deleted too.
    """

    tenant: str
    name: str
    reason: str = ABSENT

    @property
    def lock(self) -> str:
        """Return the lock of the endpoint."""
        return self.ctx.lock_name("endpoint", self.tenant, self.name)

    def plan_from(self, observation: Observation) -> Plan:
        """Return the plan for an observation."""
        host = find(observation, self.tenant, self.name)
        hosts = hosts_to_delete(observation, self.tenant, self.name)
        actions = [*plan_deletion((), hosts, self.reason).actions]
        if host and host.record.endpoint:
            before = _values(host.record.name, host.record.endpoint)
            actions.insert(0, delete_action("endpoint", self.name, self.reason, before))
        return Plan(tuple(actions))

    def carry_out(self, todo: Plan, observation: Observation, deadline: Deadline) -> Plan:
        """Delete the machines, then the endpoint."""
        ctx, tenant = self.ctx, self.tenant
        for machine in machines_of(observation, tenant, self.name):
            with locked(ctx, tenant, machine.name, deadline) as record:
                if record and record.labels.get(ENDPOINT_LABEL) == self.name:
                    host_lifecycle.destroy(ctx, record)
        host = find(observation, tenant, self.name)
        if host and host.record.endpoint and host.record.endpoint.managed:
            # The endpoint is deleted with the record of its image host.
            single = SingleSpec(host.name, tenant=tenant)
            SingleHostConvergence(ctx, single, "absent").apply(deadline)
        elif host:
            with locked(ctx, tenant, host.name, deadline) as record:
                if record:
                    ctx.provider.claim(record, endpoint=None)
        if todo:
            ctx.provider.branches.prune(ctx.owner)
            access.sync_known_hosts(ctx, tenant)
            ctx.progress(f"endpoint {self.name}: deleted")
        return todo


def recorded(observation: Observation) -> list[Host]:
    """Return the image hosts of all endpoints on record."""
    return [host for host in observation.hosts if host.record.endpoint]


def find(observation: Observation, tenant: str, name: str) -> Host | None:
    """Return the image host of an endpoint; ``None`` if the endpoint is not on record."""
    return next(
        (
            host
            for host in recorded(observation)
            if host.record.tenant == tenant
            and host.record.endpoint
            and host.record.endpoint.name == name
        ),
        None,
    )


def machines_of(observation: Observation, tenant: str, name: str) -> list[Host]:
    """Return the machines of an endpoint, by name."""
    machines = [
        host
        for host in observation.of_tenant(tenant)
        if host.record.labels.get(ENDPOINT_LABEL) == name
    ]
    return sorted(machines, key=lambda host: host.name)


def hosts_to_delete(observation: Observation, tenant: str, name: str) -> list[Host]:
    """Return the hosts that are deleted with an endpoint: its machines, and its image host if that
    was created for it.
    """
    machines, host = machines_of(observation, tenant, name), find(observation, tenant, name)
    managed = host is not None and host.record.endpoint and host.record.endpoint.managed
    return [*machines, host] if host and managed else machines


def describe(ctx: Context, observation: Observation, host: Host) -> EndpointInfo:
    """Return the public facts of the endpoint of an image host.

    :raises NotFound: if the host has no endpoint.
    """
    record, endpoint = host.record, host.record.endpoint
    if endpoint is None:
        raise NotFound("the host has no endpoint.", name=record.title)
    environment = {"DOCKER_HOST": endpoint.places[0]}
    if not endpoint.socket:
        environment["DOCKER_CERT_PATH"] = str(ctx.pki(record.tenant).client_directory)
        environment["DOCKER_TLS_VERIFY"] = "1"
    return EndpointInfo(
        name=endpoint.name,
        tenant=record.tenant,
        owner=record.owner,
        image_host=record.name,
        managed=endpoint.managed,
        template=record.template,
        state=host.state,
        socket=endpoint.socket,
        address=endpoint.address,
        port=endpoint.port,
        spares=endpoint.spares,
        socket_in_containers=endpoint.socket_in_containers,
        docker_hosts=endpoint.places,
        export=export_line(environment),
        machines=tuple(
            EndpointMachine(machine.name, machine.record.labels.get(CONTAINER, ""), machine.state)
            for machine in machines_of(observation, record.tenant, endpoint.name)
        ),
    )


@contextmanager
def locked(ctx: Context, tenant: str, name: str, deadline: Deadline) -> Iterator[HostRecord | None]:
    """Hold the lock of a single host; the value is its present record, if it exists."""
    lock = ctx.lock_name("host", tenant, name)
    with ctx.provider.exclusive(lock, deadline.within(LockedOperation.LOCK_WAIT)):
        host = ctx.provider.observe(ctx.owner).host(tenant, name)
        yield host.record if host else None


def _values(image_host: str, record: EndpointRecord) -> dict[str, Any]:
    """Return an endpoint as a plan shows it."""
    return {**codec.to_dict(record), "image_host": image_host}
