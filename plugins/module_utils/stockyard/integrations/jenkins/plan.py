# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done so that every host has its node and every node of ours its host. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...model.host import Host
from ...planning.plan import Action, Plan
from .config import Config, wanted
from .mark import mark_of
from .node import Node
from .spec import AgentSpec

# Seconds for a host that was made to get its node: then it has lost it.
NEW = 600.0
# Hosts go before their nodes do: whoever is stopped between the two leaves a node that says that
# its host is used.
ORDER = ("hold", "create", "update", "resume", "destroy host", "destroy node")


@dataclass(frozen=True)
class Scope:
    """Which part of the work is done.

    :param register: whether nodes are made, changed and brought back.
    :param collect: whether hosts are destroyed.
    """

    register: bool = True
    collect: bool = True


def belonging(spec: AgentSpec, owner: str, nodes: Iterable[Node]) -> dict[str, Node]:
    """The nodes of a fleet, by the uuid of their host."""
    whose = (owner, spec.tenant, spec.fleet)
    return {
        n.mark.uuid: n
        for n in nodes
        if n.mark and (n.mark.owner, n.mark.tenant, n.mark.fleet) == whose
    }


def plan(
    spec: AgentSpec,
    nodes: Mapping[str, Node],
    hosts: Iterable[Host],
    configs: Mapping[str, Config],
    now: float,
    scope: Scope,
) -> Plan:
    """What is to be done.

    :param nodes: the fleet's, by the uuid of their host.
    :param hosts: the fleet's.
    :param configs: what nodes are like, by the uuid of their host.
    """
    there = {h.record.uuid: h for h in hosts}
    found = [
        a
        for uuid, h in there.items()
        for a in _of(spec, h, nodes.get(uuid), configs.get(uuid), now)
    ]
    for uuid, node in nodes.items():
        if uuid not in there and node.mark and node.mark.place == spec.place:
            found.append(_gone(node, "its host is gone"))
    return Plan(tuple(a for a in sorted(found, key=_order) if _within(a, scope)))


def _of(
    spec: AgentSpec, host: Host, node: Node | None, config: Config | None, now: float
) -> list[Action]:
    """What is to be done for one host."""
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
    if spec.one_build and (node.used or not node.idle):
        return _spent(host, node)
    return _mended(spec, host, node, config)


def _withdrawn(node: Node | None) -> list[Action]:
    """A leased host is its holder's."""
    if node is None:
        return []
    return [_gone(node, "its host is leased")] if node.idle else _held(node, "its host is leased")


def _spent(host: Host, node: Node) -> list[Action]:
    """A host that is for one build, and has it or had it."""
    if not node.used:
        return _held(node, "it has its build")
    reason = "it had its build"
    name, state = host.record.name, {"state": host.state}
    return (
        [Action("destroy", "host", name, reason, state, {}), _gone(node, reason)]
        if node.idle
        else []
    )


def _held(node: Node, reason: str) -> list[Action]:
    return (
        []
        if node.held
        else [Action("hold", "node", node.name, reason, {"held": False}, {"held": True})]
    )


def _mended(spec: AgentSpec, host: Host, node: Node, config: Config | None) -> list[Action]:
    wants, found = wanted(spec, host.record), []
    changed = sorted(k for k in wants if config is not None and config[k] != wants[k])
    if config is not None and changed:
        before = {k: config[k] for k in changed}
        after = {k: wants[k] for k in changed}
        found.append(
            Action("update", "node", node.name, f"{', '.join(changed)} changed", before, after)
        )
    if node.drained:
        found.append(
            Action("resume", "node", node.name, "its host stays", {"held": True}, {"held": False})
        )
    return found


def _register(spec: AgentSpec, host: Host) -> Action:
    name, after = mark_of(host.record, spec.place).node, wanted(spec, host.record)
    return Action("create", "node", name, f"host {host.record.name} has none", {}, after)


def _lost(host: Host) -> Action:
    return Action(
        "destroy", "host", host.record.name, "its node is gone", {"state": host.state}, {}
    )


def _gone(node: Node, reason: str) -> Action:
    return Action("destroy", "node", node.name, reason, shown(node), {})


def drained(nodes: Iterable[Node], reason: str) -> Plan:
    """Take nodes out of service, and wait for what they build."""
    return Plan(
        tuple(
            Action(
                "drain",
                "node",
                n.name,
                reason,
                {"held": n.held, "idle": n.idle},
                {"held": True, "idle": True},
            )
            for n in nodes
            if not (n.held and n.idle)
        )
    )


def removed(nodes: Iterable[Node], reason: str) -> Plan:
    """Take nodes away."""
    return Plan(tuple(_gone(n, reason) for n in nodes))


def shown(node: Node) -> dict[str, Any]:
    """A node as a plan shows it."""
    return {"labels": list(node.labels), "executors": node.executors, "offline": node.offline}


def _within(action: Action, scope: Scope) -> bool:
    if action.kind == "host":
        return scope.collect
    return scope.register or action.verb in ("hold", "destroy")


def _order(action: Action) -> tuple[int, str]:
    verb = f"destroy {action.kind}" if action.verb == "destroy" else action.verb
    return ORDER.index(verb), action.name
