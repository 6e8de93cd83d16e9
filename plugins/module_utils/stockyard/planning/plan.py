# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done: a pure function of what is declared and what was observed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..escaping import one_line
from ..model import codec
from ..model.fleet import SingleSpec
from ..model.host import Host, HostSpec
from ..model.observation import Template
from . import resize
from .trust import Trust, shown

UNKNOWN_GENERATION = "known after the template is built"


@dataclass(frozen=True)
class Action:
    """One thing to do to one object.

    :param verb: ``build``, ``create``, ``change``, ``replace``, ``start``, ``restart``, ``resize``,
        ``renew``, ``relabel``, ``unlock``, ``synchronize`` or ``destroy``; for a volume ``create``,
        ``grow``, ``attach``, ``detach`` or ``destroy``; for a client certificate ``issue`` or
        ``revoke``; for a lease ``lease``, ``extend`` or ``issue``; for a file ``remove``; for a
        node of a controller also ``update``, ``hold``, ``drain`` or ``resume``.
    :param kind: ``template``, ``pool``, ``host``, ``volume``, ``client``, ``lease``, ``file`` or
        ``node``.
    :param reason: why, in words.
    :param before: what is there, for a diff.
    :param after: what will be there.
    :param wave: actions of one wave are taken side by side, and a wave only when the one before it
        went well.
    """

    verb: str
    kind: str
    name: str
    reason: str
    before: dict[str, Any]
    after: dict[str, Any]
    wave: int = 0

    def __str__(self) -> str:
        return one_line(f"{self.verb} {self.kind} {self.name}: {self.reason}")


@dataclass(frozen=True)
class Plan:
    """Actions in the order in which they are taken. An empty plan is falsy: all is as declared."""

    actions: tuple[Action, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.actions)

    def waves(self) -> list[tuple[Action, ...]]:
        """The actions, wave by wave."""
        numbers = sorted({a.wave for a in self.actions})
        found: dict[int, list[Action]] = {n: [] for n in numbers}
        for action in self.actions:
            found[action.wave].append(action)
        return [tuple(found[n]) for n in numbers]

    def diff(self) -> dict[str, dict[str, Any]]:
        """Before and after of everything that changes, by ``kind name``."""
        return {
            "before": {f"{a.kind} {a.name}": a.before for a in self.actions if a.before},
            "after": {f"{a.kind} {a.name}": a.after for a in self.actions if a.after},
        }


def host_actions(
    host: Host,
    spec: HostSpec,
    wanted: dict[str, Any],
    labels: dict[str, str],
    trust: Trust | None = None,
) -> list[Action]:
    """What is to be done to one host that stays."""
    # A leased host is its holder's: what is declared of its fleet now is for the one that comes
    # after it.
    changed = [] if host.record.lease else changes(host, wanted)
    why = resize.in_place(host.record, spec) if resize.only_size(changed) else ""
    if changed and (why or not resize.only_size(changed)):
        reason = f"{', '.join(changed)} changed{f', and {why}' * bool(why)}"
        return [Action("replace", "host", host.record.name, reason, as_it_is(host), wanted)]
    return mending(host, labels, trust, spec)


def mending(
    host: Host, labels: dict[str, str], trust: Trust | None = None, spec: HostSpec | None = None
) -> list[Action]:
    """What is to be done to one host where it is.

    :param spec: what is declared of it, if it is to be resized.
    """
    record, name = host.record, host.record.name
    actions = []
    if host.state != "running":
        actions.append(
            Action(
                "start",
                "host",
                name,
                f"it is {host.state}",
                {"state": host.state},
                {"state": "running"},
            )
        )
    actions += _resizing(host, spec) if spec and not record.lease else []
    actions += plan_renewal(host, trust)
    if record.labels != labels:
        actions.append(
            Action(
                "relabel",
                "host",
                name,
                "labels changed",
                {"labels": record.labels},
                {"labels": dict(labels)},
            )
        )
    return actions


def _resizing(host: Host, spec: HostSpec) -> list[Action]:
    """Give a host what is declared, where it is: who comes here may have it."""
    before, after = ({k: getattr(s, k) for k in resize.FIELDS} for s in (host.record.spec, spec))
    if before == after:
        return []
    changed = ", ".join(sorted(k for k in after if after[k] != before[k]))
    return [
        Action(
            "resize", "host", host.record.name, f"{changed} changed, while it runs", before, after
        )
    ]


def plan_renewal(host: Host, trust: Trust | None) -> list[Action]:
    """Admit a host anew where it is, if that is due."""
    identity = host.record.identity
    reasons = trust.reasons(identity) if trust else []
    if not (trust and identity and reasons):
        return []
    return [
        Action(
            "renew", "host", host.record.name, "; ".join(reasons), shown(identity), trust.shown()
        )
    ]


def plan_host(
    spec: SingleSpec, state: str, generation: str, host: Host | None, trust: Trust | None = None
) -> Plan:
    """What is to be done for one host by name.

    :param state: ``present``, ``absent``, ``restarted`` or ``replaced``.
    :param generation: what a new host would have.
    :param trust: what it is to be admitted with; not looked at when it is not given.
    """
    if state == "absent":
        return plan_destroy((), [host] if host else [], "it is to be absent")
    wanted = {
        "generation": as_shown(generation),
        **codec.to_dict(spec.host),
        "labels": dict(spec.labels),
    }
    if host is None:
        return Plan((Action("create", "host", spec.name, "there is none", {}, wanted),))
    before = {"generation": host.record.generation[:12], "state": host.state}
    if host.record.phase != "ready":
        return Plan(
            (Action("replace", "host", spec.name, "it was left half-made", before, wanted),)
        )
    if state == "replaced":
        return Plan(
            (
                Action(
                    "replace",
                    "host",
                    spec.name,
                    "it was asked for",
                    before,
                    {"generation": as_shown(generation)},
                ),
            )
        )
    if state == "restarted":
        after = {**before, "state": "running"}
        restart = Action("restart", "host", spec.name, "it was asked for", before, after)
        return Plan((restart, *plan_renewal(host, trust)))
    return Plan(tuple(host_actions(host, spec.host, wanted, spec.labels, trust)))


def unlocking(todo: Plan, locked: Mapping[str, str]) -> Plan:
    """A plan with hosts let in that wait for the keys of their volumes, and that it leaves running.

    :param locked: why each waits, by name.
    """
    busy = {
        a.name
        for a in todo.actions
        if a.kind == "host" and a.verb in ("destroy", "replace", "restart", "start")
    }
    before, after = {"state": "locked"}, {"state": "running"}
    opened = [
        Action("unlock", "host", n, why, before, after)
        for n, why in sorted(locked.items())
        if n not in busy
    ]
    return Plan((*opened, *todo.actions))


def synchronizing(todo: Plan, skewed: Mapping[str, str]) -> Plan:
    """Return a plan that also sets the clocks of hosts which it leaves running. A start or a
    renewal sets it anyway.

    :param skewed: the reason for each, by name.
    """
    others = ("destroy", "replace", "restart", "start", "renew", "unlock")
    busy = {a.name for a in todo.actions if a.kind == "host" and a.verb in others}
    actions = [
        Action("synchronize", "host", name, reason, {"clock": reason}, {"clock": "it is right"})
        for name, reason in sorted(skewed.items())
        if name not in busy
    ]
    return Plan((*actions, *todo.actions))


def plan_destroy(templates: Iterable[Template], hosts: Iterable[Host], reason: str) -> Plan:
    """Take all of these away, hosts first."""
    actions = [gone("host", h.record.name, reason, {"state": h.state}) for h in hosts]
    actions += [
        gone("template", t.record.name, reason, {"generation": t.record.generation[:12]})
        for t in templates
    ]
    return Plan(tuple(actions))


def as_it_is(host: Host) -> dict[str, Any]:
    """A host as a plan shows it."""
    record = host.record
    return {
        "generation": record.generation[:12],
        **codec.to_dict(record.spec),
        "labels": record.labels,
    }


def changes(host: Host, wanted: dict[str, Any]) -> list[str]:
    """What cannot be changed in place, and differs."""
    before = as_it_is(host)
    return sorted(k for k in wanted if k != "labels" and wanted[k] != before[k])


def gone(kind: str, name: str, reason: str, before: dict[str, Any]) -> Action:
    """Take something away."""
    return Action("destroy", kind, name, reason, before, {})


def as_shown(generation: str) -> str:
    """A generation as a plan shows it."""
    return generation if generation == UNKNOWN_GENERATION else generation[:12]
