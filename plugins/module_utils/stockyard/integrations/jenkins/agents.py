# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet's nodes on a controller: made to be as declared, drained, and taken away."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

from ...clock import Deadline
from ...errors import Conflict, NotFound, StockyardError
from ...model.host import Host
from ...planning.plan import Action, Plan
from ...resources.context import Context
from ...resources.hosts import access, host_lifecycle
from ...result import Result
from . import config as configs
from .client import Controller
from .drain import drain
from .mark import mark_of
from .node import USED, Node
from .plan import Scope, belonging, drained, plan, removed
from .spec import AgentSpec

LOCK_WAIT = 5.0
POLL = 1.0
EVERYTHING = Scope()


class Agents:
    """The nodes of one fleet.

    :param ctx: the yard that its hosts are in.
    """

    def __init__(self, ctx: Context, controller: Controller, spec: AgentSpec) -> None:
        self.ctx = ctx
        self.controller = controller
        self.spec = spec

    def converge(
        self, timeout: float, *, check: bool = False, scope: Scope = EVERYTHING, watch: float = 0.0
    ) -> Result:
        """Have a node for every host that serves, and none for hosts that are gone.

        :param watch: seconds to keep looking which hosts get their one build, so that they get no
            other.
        """
        deadline = self.ctx.deadline(timeout)
        # Nodes first: of those that are listed now every host is made already.
        nodes = belonging(self.spec, self.ctx.owner, self.controller.nodes())
        there = {h.record.uuid: h for h in self._hosts()}
        found = {
            uuid: configs.read(self.controller.config(n.name), n.name)
            for uuid, n in nodes.items()
            if uuid in there and scope.register
        }
        todo = plan(self.spec, nodes, there.values(), found, self.ctx.clock.now(), scope)
        if not check:
            self._apply(todo, there, deadline)
            if watch and self.spec.one_build:
                todo = Plan(todo.actions + self._watch(deadline.within(watch)))
        return Result(todo, self.nodes())

    def drain(
        self,
        timeout: float,
        grace: float,
        *,
        check: bool = False,
        only: Collection[str] | None = None,
    ) -> Result:
        """Take nodes out of service and wait for what they build.

        :param grace: seconds; then they are not waited for any longer.
        :param only: the names of the hosts whose nodes are meant; all of the fleet when it is not
            given.
        """
        chosen = self._chosen(only)
        todo = drained(chosen, "it was asked for")
        if not check:
            drain(
                self.ctx.progress, self.controller, chosen, self.ctx.deadline(min(timeout, grace))
            )
        return Result(todo, self.nodes())

    def remove(
        self,
        timeout: float,
        grace: float,
        *,
        check: bool = False,
        only: Collection[str] | None = None,
    ) -> Result:
        """Drain nodes and remove them. Their hosts stay."""
        chosen = self._chosen(only)
        todo = removed(chosen, "it is to be absent")
        if not check:
            drain(
                self.ctx.progress, self.controller, chosen, self.ctx.deadline(min(timeout, grace))
            )
            self._each([partial(self._delete, n.name) for n in chosen])
        return Result(todo, self.nodes())

    def nodes(self, *, secrets: bool = False) -> list[dict[str, Any]]:
        """The fleet's nodes and hosts, as modules return them: an entry for each node, then for
        hosts without one.
        """
        nodes = belonging(self.spec, self.ctx.owner, self.controller.nodes())
        there = {h.record.uuid: h for h in self._hosts()}
        listed = [self._described(n, there.get(uuid), secrets) for uuid, n in nodes.items()]
        bare = [_bare(h) for uuid, h in there.items() if uuid not in nodes]
        return sorted(listed, key=lambda one: str(one["name"])) + sorted(
            bare, key=lambda one: str(one["host"])
        )

    def left(self) -> list[dict[str, str]]:
        """Nodes that look like ours and were left alone, and why."""
        return [
            {"kind": "node", "name": n.name, "reason": n.problem}
            for n in self.controller.nodes()
            if n.problem
        ]

    def _hosts(self) -> list[Host]:
        whose = (self.spec.tenant, self.spec.fleet)
        seen = self.ctx.provider.observe(self.ctx.owner)
        return [h for h in seen.hosts if (h.record.tenant, h.record.fleet) == whose]

    def _chosen(self, only: Collection[str] | None) -> list[Node]:
        """Nodes by the names of their hosts.

        :raises NotFound: when a host that is named has none.
        """
        found = belonging(self.spec, self.ctx.owner, self.controller.nodes()).values()
        missing = sorted(set(only or ()) - {n.mark.host for n in found if n.mark})
        if missing:
            raise NotFound(
                f"{', '.join(missing)} has no node.",
                name=f"fleet {self.spec.fleet}",
                remedy="name hosts as the fleet has them",
            )
        return [n for n in found if n.mark and (only is None or n.mark.host in only)]

    def _apply(self, todo: Plan, there: dict[str, Host], deadline: Deadline) -> None:
        by_host = {h.record.name: h for h in there.values()}
        by_node = {mark_of(h.record, self.spec.place).node: h for h in there.values()}
        stays: set[str] = set()

        def do(action: Action) -> None:
            deadline.check(f"{action.verb} {action.kind} {action.name}", remedy="run again")
            if action.kind == "host":
                self._dispose(by_host[action.name], stays, deadline)
            elif action.verb in ("create", "update"):
                self._have(by_node[action.name], action.verb == "create")
            elif action.name not in stays:
                self._plain(action)

        self._each([partial(do, action) for action in todo.actions])

    def _plain(self, action: Action) -> None:
        if action.verb == "hold":
            self.controller.hold(action.name, USED)
        elif action.verb == "resume":
            self.controller.resume(action.name)
        else:
            self._delete(action.name)
            return
        self.ctx.progress(f"node {action.name}: {action.verb}, {action.reason}")

    def _have(self, host: Host, new: bool) -> None:
        """Make a node, or change it, and see that it is as it was to be."""
        config = configs.wanted(self.spec, host.record)
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
        """Another run may have made it meanwhile.

        :raises Conflict: when somebody else did.
        """
        mine = belonging(self.spec, self.ctx.owner, self.controller.nodes()).values()
        if name not in {n.name for n in mine}:
            raise Conflict(
                "there is one of this name, and nothing says that it is ours.",
                name=f"node {name}",
                remedy="rename or remove it there",
            )

    def _delete(self, name: str) -> None:
        try:
            self.controller.delete(name)
        except NotFound:
            return
        self.ctx.progress(f"node {name}: removed")

    def _dispose(self, host: Host, stays: set[str], deadline: Deadline) -> None:
        """Take a host away, unless somebody leased it meanwhile. Its fleet makes another."""
        record = host.record
        lock = self.ctx.lock_name("fleet", record.tenant, record.fleet)
        try:
            with self.ctx.provider.exclusive(lock, deadline.within(LOCK_WAIT)):
                host_lifecycle.delete_unless_leased(
                    self.ctx, record, partial(host_lifecycle.destroy, self.ctx, record)
                )
                access.sync_known_hosts(self.ctx, record.tenant)
        except StockyardError:
            stays.add(mark_of(record, self.spec.place).node)
            raise

    def _watch(self, deadline: Deadline) -> tuple[Action, ...]:
        """Take every node out of service as soon as it builds, until the time is up."""
        done: list[Action] = []
        while not deadline.passed():
            for node in belonging(self.spec, self.ctx.owner, self.controller.nodes()).values():
                if not (node.idle or node.held):
                    done.append(
                        Action(
                            "hold",
                            "node",
                            node.name,
                            "it has its build",
                            {"held": False},
                            {"held": True},
                        )
                    )
                    self._plain(done[-1])
            deadline.pause(POLL)
        return tuple(done)

    def _each(self, work: Iterable[Callable[[], None]]) -> None:
        """Do all of it, one after the other; then raise what went wrong, all of it."""
        errors: list[StockyardError] = []
        for one in work:
            try:
                one()
            except StockyardError as error:
                errors.append(error)
        if len(errors) > 1:
            raise StockyardError(
                f"{len(errors)} steps failed.", cause="; ".join(map(str, errors))
            ) from errors[0]
        if errors:
            raise errors[0]

    def _described(self, node: Node, host: Host | None, secrets: bool) -> dict[str, Any]:
        told = {
            "name": node.name,
            "host": node.mark.host if node.mark else "",
            "uuid": node.mark.uuid if node.mark else "",
            "address": host.record.address if host else "",
            "host_state": host.state if host else "gone",
            "labels": list(node.labels),
            "executors": node.executors,
            "idle": node.idle,
            "online": not node.offline,
            "held": node.held,
            "reason": node.reason,
        }
        return {**told, "secret": self.controller.secret(node.name)} if secrets else told


def _bare(host: Host) -> dict[str, Any]:
    return {
        "name": "",
        "host": host.record.name,
        "uuid": host.record.uuid,
        "address": host.record.address,
        "host_state": host.state,
        "labels": [],
        "executors": 0,
        "idle": True,
        "online": False,
        "held": False,
        "reason": "it has no node",
    }
