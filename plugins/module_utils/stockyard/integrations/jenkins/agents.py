# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes of a fleet on a Jenkins controller: converge, drain and delete."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial

from ...clock import Deadline
from ...errors import Conflict, NotFound, StockyardError, joined
from ...model.host import Host
from ...model.yard_info import SkippedObject
from ...planning.plan import Action, Plan
from ...resources.context import Context
from ...resources.hosts import access, host_lifecycle
from ...result import Result
from . import config as configs
from .client import Controller
from .drain import drain
from .mark import mark_of
from .node import USED, Node
from .node_info import NodeInfo
from .plan import Scope, belonging, drained, plan, removed
from .spec import AgentSpec

LOCK_WAIT = 5.0
POLL = 1.0
EVERYTHING = Scope()


class Agents:
    """Nodes of one fleet.

    :param ctx: the yard that contains the fleet's hosts.
    """

    def __init__(self, ctx: Context, controller: Controller, spec: AgentSpec) -> None:
        self.ctx = ctx
        self.controller = controller
        self.spec = spec

    def converge(
        self, timeout: float, *, check: bool = False, scope: Scope = EVERYTHING, watch: float = 0.0
    ) -> Result[NodeInfo]:
        """Create a node for every serving host, and delete the nodes of deleted hosts.

        :param watch: seconds to watch for hosts whose single build starts, so that they get no
            second one.
        """
        deadline = self.ctx.deadline(timeout)
        # Nodes are listed before hosts, so that the host of each listed node exists already.
        nodes = belonging(self.spec, self.ctx.owner, self.controller.nodes())
        hosts = {host.record.uuid: host for host in self._hosts()}
        node_configs = {
            uuid: configs.read(self.controller.config(node.name), node.name)
            for uuid, node in nodes.items()
            if uuid in hosts and scope.register
        }
        changes = plan(self.spec, nodes, hosts.values(), node_configs, self.ctx.clock.now(), scope)
        if not check:
            self._apply(changes, hosts, deadline)
            if watch and self.spec.one_build:
                changes = Plan(changes.actions + self._watch(deadline.within(watch)))
        return Result(changes, self.nodes())

    def drain(
        self,
        timeout: float,
        grace: float,
        *,
        check: bool = False,
        only: Collection[str] | None = None,
    ) -> Result[NodeInfo]:
        """Drain nodes: take them out of service and wait until their builds are done.

        :param grace: the maximum wait in seconds.
        :param only: the names of the hosts whose nodes are drained; all of the fleet if not given.
        """
        chosen = self._chosen(only)
        changes = drained(chosen, "the task requests it")
        if not check:
            drain(
                self.ctx.progress, self.controller, chosen, self.ctx.deadline(min(timeout, grace))
            )
        return Result(changes, self.nodes())

    def remove(
        self,
        timeout: float,
        grace: float,
        *,
        check: bool = False,
        only: Collection[str] | None = None,
    ) -> Result[NodeInfo]:
        """Drain nodes and delete them. Their hosts stay."""
        chosen = self._chosen(only)
        changes = removed(chosen, "it is declared absent")
        if not check:
            drain(
                self.ctx.progress, self.controller, chosen, self.ctx.deadline(min(timeout, grace))
            )
            self._run_steps([partial(self._delete, node.name) for node in chosen])
        return Result(changes, self.nodes())

    def nodes(self, *, secrets: bool = False) -> tuple[NodeInfo, ...]:
        """Return the fleet's nodes by name, and then the hosts without a node.

        :param secrets: whether to ask for the secrets of inbound agents.
        """
        nodes = belonging(self.spec, self.ctx.owner, self.controller.nodes())
        hosts = {host.record.uuid: host for host in self._hosts()}
        registered = [
            self._describe(node, hosts.get(uuid), secrets) for uuid, node in nodes.items()
        ]
        unregistered = [_without_node(host) for uuid, host in hosts.items() if uuid not in nodes]
        return (
            *sorted(registered, key=lambda node: node.name),
            *sorted(unregistered, key=lambda node: node.host),
        )

    def skipped(self) -> tuple[SkippedObject, ...]:
        """Return the nodes with a damaged mark of stockyard, which were not changed, with the
        reasons.
        """
        return tuple(
            SkippedObject("node", node.name, node.problem)
            for node in self.controller.nodes()
            if node.problem
        )

    def _hosts(self) -> list[Host]:
        observation = self.ctx.provider.observe(self.ctx.owner)
        return observation.members(self.spec.tenant, self.spec.fleet)

    def _chosen(self, only: Collection[str] | None) -> list[Node]:
        """Return nodes by the names of their hosts.

        :raises NotFound: if one of the hosts has no node.
        """
        nodes = belonging(self.spec, self.ctx.owner, self.controller.nodes()).values()
        missing = sorted(set(only or ()) - {node.mark.host for node in nodes if node.mark})
        if missing:
            raise NotFound(
                f"the fleet has no node for {', '.join(missing)}.",
                name=f"fleet {self.spec.fleet}",
                remedy="use the names of the fleet's hosts",
            )
        return [node for node in nodes if node.mark and (only is None or node.mark.host in only)]

    def _apply(self, changes: Plan, hosts: dict[str, Host], deadline: Deadline) -> None:
        by_host = {host.record.name: host for host in hosts.values()}
        by_node = {mark_of(host.record, self.spec.place).node: host for host in hosts.values()}
        retained: set[str] = set()

        def perform(action: Action) -> None:
            deadline.check(f"{action.verb} {action.kind} {action.name}", remedy="run again")
            if action.kind == "host":
                self._dispose(by_host[action.name], retained, deadline)
            elif action.verb in ("create", "update"):
                self._converge_node(by_node[action.name], action.verb == "create")
            elif action.name not in retained:
                self._plain(action)

        self._run_steps([partial(perform, action) for action in changes.actions])

    def _plain(self, action: Action) -> None:
        if action.verb == "hold":
            self.controller.hold(action.name, USED)
        elif action.verb == "resume":
            self.controller.resume(action.name)
        else:
            self._delete(action.name)
            return
        self.ctx.progress(f"node {action.name}: {action.verb}, {action.reason}")

    def _converge_node(self, host: Host, new: bool) -> None:
        """Create or change a node, and check the result."""
        config = configs.desired_config(self.spec, host.record)
        name = mark_of(host.record, self.spec.place).node
        if new:
            try:
                self.controller.create(name, configs.form(name, config))
            except Conflict:
                self._see_that_it_is_ours(name)
        xml = self.controller.config(name)
        if configs.read(xml, name) != config:
            self.controller.configure(name, configs.edited(xml, name, config))
            configs.check(name, config, configs.read(self.controller.config(name), name))
        self.ctx.progress(f"node {name}: {'registered' if new else 'changed'}")

    def _see_that_it_is_ours(self, name: str) -> None:
        """Check that an existing node belongs to this fleet: another run may have created it at the
        same time.

        :raises Conflict: if it does not belong to the fleet.
        """
        own_nodes = belonging(self.spec, self.ctx.owner, self.controller.nodes()).values()
        if name not in {node.name for node in own_nodes}:
            raise Conflict(
                "the controller has a node of this name without a mark of stockyard.",
                name=f"node {name}",
                remedy="rename or delete the node in Jenkins",
            )

    def _delete(self, name: str) -> None:
        try:
            self.controller.delete(name)
        except NotFound:
            return
        self.ctx.progress(f"node {name}: deleted")

    def _dispose(self, host: Host, retained: set[str], deadline: Deadline) -> None:
        """Delete a host, unless it was leased in the meantime. Its fleet creates another host."""
        record = host.record
        lock = self.ctx.lock_name("fleet", record.tenant, record.fleet)
        try:
            with self.ctx.provider.exclusive(lock, deadline.within(LOCK_WAIT)):
                host_lifecycle.delete_unless_leased(
                    self.ctx, record, partial(host_lifecycle.destroy, self.ctx, record)
                )
                access.sync_known_hosts(self.ctx, record.tenant)
        except StockyardError:
            retained.add(mark_of(record, self.spec.place).node)
            raise

    def _watch(self, deadline: Deadline) -> tuple[Action, ...]:
        """Take every node out of service as soon as its build starts, until the deadline."""
        actions: list[Action] = []
        while not deadline.passed():
            for node in belonging(self.spec, self.ctx.owner, self.controller.nodes()).values():
                if not (node.idle or node.held):
                    actions.append(
                        Action(
                            "hold",
                            "node",
                            node.name,
                            "it has had its build",
                            {"held": False},
                            {"held": True},
                        )
                    )
                    self._plain(actions[-1])
            deadline.pause(POLL)
        return tuple(actions)

    def _run_steps(self, steps: Iterable[Callable[[], None]]) -> None:
        """Do all steps one after the other, then raise all their errors."""
        errors: list[StockyardError] = []
        for step in steps:
            try:
                step()
            except StockyardError as error:
                errors.append(error)
        if len(errors) > 1:
            raise joined(f"{len(errors)} steps failed.", errors) from errors[0]
        if errors:
            raise errors[0]

    def _describe(self, node: Node, host: Host | None, secrets: bool) -> NodeInfo:
        return NodeInfo(
            name=node.name,
            host=node.mark.host if node.mark else "",
            uuid=node.mark.uuid if node.mark else "",
            address=host.record.address if host else "",
            host_state=host.state if host else "gone",
            labels=node.labels,
            executors=node.executors,
            idle=node.idle,
            online=not node.offline,
            held=node.held,
            reason=node.reason,
            secret=self.controller.secret(node.name) if secrets else None,
            absent=frozenset(() if secrets else ("secret",)),
        )


def _without_node(host: Host) -> NodeInfo:
    return NodeInfo(
        name="",
        host=host.record.name,
        uuid=host.record.uuid,
        address=host.record.address,
        host_state=host.state,
        labels=(),
        executors=0,
        idle=True,
        online=False,
        held=False,
        reason="the host has no node",
        absent=frozenset(("secret",)),
    )
