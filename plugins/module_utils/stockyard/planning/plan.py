# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions and plans: a pure function of the declaration and the observation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..escaping import one_line
from ..model import codec
from ..model.fleet import SingleSpec
from ..model.host import SUSPENDED, Host, HostSpec
from ..model.observation import Template
from . import resize
from .trust import Trust, identity_values

UNKNOWN_GENERATION = "known after the template is built"
DECLARED_SUSPENDED = "it is declared suspended"


@dataclass(frozen=True)
class Action:
    """One change of one object.

    :param verb: ``build``, ``create``, ``change``, ``replace``, ``start``, ``restart``,
        ``stop``, ``suspend``, ``resume``, ``resize``, ``renew``, ``relabel``, ``unlock``,
        ``synchronize`` or ``delete``; for a volume ``create``, ``grow``, ``attach``, ``detach`` or
        ``delete``; for a template also ``promote``, ``push``, ``pull``, ``save`` or ``load``; for a
        client certificate ``issue`` or ``revoke``; for a lease ``lease``,
        ``extend`` or ``issue``; for a file ``remove``; for a node of a controller also ``update``,
        ``hold``, ``drain`` or ``resume``.
    :param kind: ``template``, ``pool``, ``host``, ``endpoint``, ``volume``, ``client``, ``lease``,
        ``file`` or ``node``.
    :param reason: the reason, in words.
    :param before: the present state, for a diff.
    :param after: the resulting state.
    :param wave: actions of one wave run in parallel, and a wave starts only if the previous wave
        succeeded.
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
    """Actions in the order of their execution. An empty plan is falsy: everything is as
    declared.
    """

    actions: tuple[Action, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.actions)

    def waves(self) -> list[tuple[Action, ...]]:
        """Return the actions, wave by wave."""
        numbers = sorted({entry.wave for entry in self.actions})
        actions_by_wave: dict[int, list[Action]] = {number: [] for number in numbers}
        for action in self.actions:
            actions_by_wave[action.wave].append(action)
        return [tuple(actions_by_wave[number]) for number in numbers]

    def diff(self) -> dict[str, dict[str, Any]]:
        """Return the states before and after of everything that changes, by ``kind name``."""
        return {
            "before": {
                f"{action.kind} {action.name}": action.before
                for action in self.actions
                if action.before
            },
            "after": {
                f"{action.kind} {action.name}": action.after
                for action in self.actions
                if action.after
            },
        }


def host_actions(
    host: Host,
    spec: HostSpec,
    desired: dict[str, Any],
    labels: dict[str, str],
    trust: Trust | None = None,
) -> list[Action]:
    """Return the actions for one host that stays."""
    # A leased host belongs to its holder: a changed declaration applies to the next host in its
    # place.
    changed_fields = [] if host.record.lease else changes(host, desired)
    resize_problem = resize.in_place(host.record, spec) if resize.only_size(changed_fields) else ""
    if changed_fields and (resize_problem or not resize.only_size(changed_fields)):
        reason = (
            f"{', '.join(changed_fields)} changed{f', and {resize_problem}' * bool(resize_problem)}"
        )
        return [Action("replace", "host", host.record.name, reason, as_it_is(host), desired)]
    return in_place_actions(host, labels, trust, spec)


def in_place_actions(
    host: Host,
    labels: dict[str, str],
    trust: Trust | None = None,
    spec: HostSpec | None = None,
    *,
    stays_asleep: bool = False,
) -> list[Action]:
    """Return the actions for one host that is corrected in place.

    :param spec: the declaration of the host, if a resize is possible.
    :param stays_asleep: whether it stays suspended until a lease resumes it.
    """
    record, name = host.record, host.record.name
    actions = []
    if host.suspended:
        actions += [] if stays_asleep else [plan_resume(host)]
    elif host.state != "running":
        actions.append(_starting(host))
    if stays_asleep:
        # Its guest is corrected when it is resumed.
        spec = trust = None
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


def _starting(host: Host) -> Action:
    before, after = {"state": host.state}, {"state": "running"}
    return Action("start", "host", host.record.name, f"it is {host.state}", before, after)


def plan_resume(host: Host) -> Action:
    """Return the action that resumes a suspended host, or starts one that was shut down in place of
    a suspension.
    """
    if not host.suspended:
        return _starting(host)
    reason = "its resume was interrupted" if host.record.resuming else "it is suspended"
    before, after = {"state": SUSPENDED}, {"state": "running"}
    return Action("resume", "host", host.record.name, reason, before, after)


def plan_suspension(
    hosts: Iterable[Host], reason: str, key_reasons: Mapping[str, str] | None = None
) -> Plan:
    """Return the plan that suspends the complete hosts which run. All other hosts stay as they are:
    a host that is off uses no memory either.

    :param key_reasons: why a host is shut down instead, by uuid.
    """
    return Plan(
        tuple(
            _suspension(host, reason, (key_reasons or {}).get(host.record.uuid, ""))
            for host in hosts
            if host.record.phase == "ready" and host.state in ("running", "paused")
        )
    )


def _suspension(host: Host, reason: str, key_reason: str) -> Action:
    """Return the action that suspends a host, or shuts it down if there is a reason for that."""
    verb, state = ("stop", "off") if key_reason else ("suspend", SUSPENDED)
    reason = f"{reason}, and {key_reason}" if key_reason else reason
    return Action(verb, "host", host.record.name, reason, {"state": host.state}, {"state": state})


def _resizing(host: Host, spec: HostSpec) -> list[Action]:
    """Return the action that resizes a host in place to its declared size; its next holder can use
    the new size.
    """
    before, after = (
        {field: getattr(host_spec, field) for field in resize.FIELDS}
        for host_spec in (host.record.spec, spec)
    )
    if before == after:
        return []
    changed_fields = ", ".join(sorted(field for field in after if after[field] != before[field]))
    return [
        Action(
            "resize",
            "host",
            host.record.name,
            f"{changed_fields} changed; the host keeps running",
            before,
            after,
        )
    ]


def plan_renewal(host: Host, trust: Trust | None) -> list[Action]:
    """Return the action that renews the certificate of a host in place, if a renewal is due."""
    identity = host.record.identity
    reasons = trust.reasons(identity) if trust else []
    if not (trust and identity and reasons):
        return []
    return [
        Action(
            "renew",
            "host",
            host.record.name,
            "; ".join(reasons),
            identity_values(identity),
            trust.values(),
        )
    ]


def plan_host(
    spec: SingleSpec, state: str, generation: str, host: Host | None, trust: Trust | None = None
) -> Plan:
    """Return the plan of one host by name.

    :param state: ``present``, ``absent``, ``restarted`` or ``replaced``.
    :param generation: the generation that a new host would have.
    :param trust: the trust that the host must have; not compared if ``None``.
    """
    if state == "absent":
        return plan_deletion((), [host] if host else [], "it is declared absent")
    desired = {
        "generation": as_shown(generation),
        **codec.to_dict(spec.host),
        "labels": dict(spec.labels),
    }
    if host is None:
        return Plan((Action("create", "host", spec.name, "it does not exist", {}, desired),))
    before = {"generation": host.record.generation[:12], "state": host.state}
    if host.record.phase != "ready":
        return Plan((Action("replace", "host", spec.name, "it is incomplete", before, desired),))
    if state == "replaced":
        return Plan(
            (
                Action(
                    "replace",
                    "host",
                    spec.name,
                    "the task requests it",
                    before,
                    {"generation": as_shown(generation)},
                ),
            )
        )
    if state == "restarted":
        after = {**before, "state": "running"}
        restart = Action("restart", "host", spec.name, "the task requests it", before, after)
        return Plan((restart, *plan_renewal(host, trust)))
    return Plan(tuple(host_actions(host, spec.host, desired, spec.labels, trust)))


def plan_start(host: Host) -> Plan:
    """Return the plan that resumes or starts one host, and changes nothing else."""
    actions = in_place_actions(host, host.record.labels)
    return Plan(tuple(action for action in actions if action.verb in ("start", "resume")))


def unlocking(todo: Plan, lock_reasons: Mapping[str, str]) -> Plan:
    """Return a plan that also unlocks the hosts which wait for the keys of their volumes and which
    it leaves running.

    :param lock_reasons: the reason why each host waits, by name.
    """
    busy = {
        action.name
        for action in todo.actions
        if action.kind == "host"
        and action.verb in ("delete", "replace", "restart", "start", "suspend", "resume")
    }
    before, after = {"state": "locked"}, {"state": "running"}
    unlocks = [
        Action("unlock", "host", name, reason, before, after)
        for name, reason in sorted(lock_reasons.items())
        if name not in busy
    ]
    return Plan((*unlocks, *todo.actions))


def synchronizing(todo: Plan, clock_reasons: Mapping[str, str]) -> Plan:
    """Return a plan that also sets the clocks of hosts which it leaves running. A start or a
    renewal sets the clock anyway.

    :param clock_reasons: the reason for each host, by name.
    """
    verbs = ("delete", "replace", "restart", "start", "suspend", "resume", "renew", "unlock")
    busy = {
        action.name for action in todo.actions if action.kind == "host" and action.verb in verbs
    }
    actions = [
        Action("synchronize", "host", name, reason, {"clock": reason}, {"clock": "correct"})
        for name, reason in sorted(clock_reasons.items())
        if name not in busy
    ]
    return Plan((*actions, *todo.actions))


def suspending(todo: Plan, idle_hosts: Iterable[Host], reason: str) -> Plan:
    """Return a plan that also suspends idle hosts, as far as it leaves them alone."""
    busy = {action.name for action in todo.actions if action.kind == "host"}
    hosts = [host for host in idle_hosts if host.record.name not in busy]
    return Plan((*todo.actions, *plan_suspension(hosts, reason).actions))


def plan_deletion(templates: Iterable[Template], hosts: Iterable[Host], reason: str) -> Plan:
    """Return the plan that deletes these hosts and templates, hosts first."""
    actions = [
        delete_action("host", host.record.name, reason, {"state": host.state}) for host in hosts
    ]
    actions += [
        delete_action(
            "template",
            template.record.name,
            reason,
            {"generation": template.record.generation[:12]},
        )
        for template in templates
    ]
    return Plan(tuple(actions))


def as_it_is(host: Host) -> dict[str, Any]:
    """Return a host as a plan shows it."""
    record = host.record
    return {
        "generation": record.generation[:12],
        **codec.to_dict(record.spec),
        "labels": record.labels,
    }


def changes(host: Host, desired: dict[str, Any]) -> list[str]:
    """Return the properties that differ and cannot be changed in place."""
    before = as_it_is(host)
    # Fields that were added later are omitted at their defaults.
    return sorted(
        key
        for key in {**before, **desired}
        if key != "labels" and desired.get(key) != before.get(key)
    )


def delete_action(kind: str, name: str, reason: str, before: dict[str, Any]) -> Action:
    """Return the action that deletes an object."""
    return Action("delete", kind, name, reason, before, {})


def as_shown(generation: str) -> str:
    """Return a generation as a plan shows it."""
    return generation if generation == UNKNOWN_GENERATION else generation[:12]
