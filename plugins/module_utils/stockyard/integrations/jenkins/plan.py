# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan of the changes after which every host has its node and every node its host. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...model.host import Host
from ...planning.plan import Action, Plan
from .config import Config, desired_config
from .mark import mark_of
from .node import Node
from .spec import AgentSpec

# Seconds in which a new host gets its node. An older host without a node has lost it.
NEW = 600.0
# Hosts are deleted before their nodes. A run that stops between the two leaves a node that shows
# that its host is used.
ORDER = ("hold", "create", "update", "resume", "delete host", "delete node")


@dataclass(frozen=True)
class Scope:
    """Part of the plan that is carried out.

    :param register: whether to create, change and resume nodes.
    :param collect: whether to delete hosts.
    """

    register: bool = True
    collect: bool = True


def belonging(spec: AgentSpec, owner: str, nodes: Iterable[Node]) -> dict[str, Node]:
    """Return the nodes of a fleet by the uuid of their host."""
    fleet = (owner, spec.tenant, spec.fleet)
    return {
        node.mark.uuid: node
        for node in nodes
        if node.mark and (node.mark.owner, node.mark.tenant, node.mark.fleet) == fleet
    }


def plan(
    spec: AgentSpec,
    nodes: Mapping[str, Node],
    hosts: Iterable[Host],
    configs: Mapping[str, Config],
    now: float,
    scope: Scope,
) -> Plan:
    """Return the actions that every host and every node of a fleet needs.

    :param nodes: the fleet's nodes, by the uuid of their host.
    :param hosts: the fleet's hosts.
    :param configs: the configurations of nodes, by the uuid of their host.
    """
    by_uuid = {host.record.uuid: host for host in hosts}
    actions = [
        action
        for uuid, host in by_uuid.items()
        for action in _of(spec, host, nodes.get(uuid), configs.get(uuid), now)
    ]
    for uuid, node in nodes.items():
        if uuid not in by_uuid and node.mark and node.mark.place == spec.place:
            actions.append(_deletion(node, "its host no longer exists"))
    return Plan(tuple(action for action in sorted(actions, key=_order) if _within(action, scope)))


def _of(
    spec: AgentSpec, host: Host, node: Node | None, config: Config | None, now: float
) -> list[Action]:
    """Return the actions for one host."""
    if host.record.lease:
        return _withdrawn(node)
    if not host.serving:
        return []
    if node is None:
        return (
            [_lost(host)]
            if spec.replaces_lost and now - host.record.created > NEW
            else [_register(spec, host)]
        )
    if spec.one_build and (node.out_of_service or not node.idle):
        return _spent(host, node)
    return _mended(spec, host, node, config)


def _withdrawn(node: Node | None) -> list[Action]:
    """Return the actions for a leased host, which belongs to its holder."""
    if node is None:
        return []
    return (
        [_deletion(node, "its host is leased")]
        if node.idle
        else _retained(node, "its host is leased")
    )


def _spent(host: Host, node: Node) -> list[Action]:
    """Return the actions for a host whose single build runs or has ended."""
    if not node.out_of_service:
        return _retained(node, "it is running its build")
    reason = "it has had its build"
    name, state = host.record.name, {"state": host.state}
    return (
        [Action("delete", "host", name, reason, state, {}), _deletion(node, reason)]
        if node.idle
        else []
    )


def _retained(node: Node, reason: str) -> list[Action]:
    return (
        []
        if node.held
        else [Action("hold", "node", node.name, reason, {"held": False}, {"held": True})]
    )


def _mended(spec: AgentSpec, host: Host, node: Node, config: Config | None) -> list[Action]:
    desired, actions = desired_config(spec, host.record), []
    changed = sorted(key for key in desired if config is not None and config[key] != desired[key])
    if config is not None and changed:
        before = {key: config[key] for key in changed}
        after = {key: desired[key] for key in changed}
        actions.append(
            Action("update", "node", node.name, f"{', '.join(changed)} changed", before, after)
        )
    if node.drained:
        actions.append(
            Action("resume", "node", node.name, "its host stays", {"held": True}, {"held": False})
        )
    return actions


def _register(spec: AgentSpec, host: Host) -> Action:
    name, after = mark_of(host.record, spec.place).node, desired_config(spec, host.record)
    return Action("create", "node", name, f"host {host.record.name} has no node", {}, after)


def _lost(host: Host) -> Action:
    return Action(
        "delete", "host", host.record.name, "its node no longer exists", {"state": host.state}, {}
    )


def _deletion(node: Node, reason: str) -> Action:
    return Action("delete", "node", node.name, reason, node_values(node), {})


def drained(nodes: Iterable[Node], reason: str) -> Plan:
    """Return the plan to take nodes out of service and wait for their builds."""
    return Plan(
        tuple(
            Action(
                "drain",
                "node",
                node.name,
                reason,
                {"held": node.held, "idle": node.idle},
                {"held": True, "idle": True},
            )
            for node in nodes
            if not (node.held and node.idle)
        )
    )


def removed(nodes: Iterable[Node], reason: str) -> Plan:
    """Return the plan to delete nodes."""
    return Plan(tuple(_deletion(node, reason) for node in nodes))


def node_values(node: Node) -> dict[str, Any]:
    """Return a node in the form of a plan's values."""
    return {"labels": list(node.labels), "executors": node.executors, "offline": node.offline}


def _within(action: Action, scope: Scope) -> bool:
    if action.kind == "host":
        return scope.collect
    return scope.register or action.verb in ("hold", "delete")


def _order(action: Action) -> tuple[int, str]:
    verb = f"delete {action.kind}" if action.verb == "delete" else action.verb
    return ORDER.index(verb), action.name
