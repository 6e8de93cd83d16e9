# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done: a pure function of what is declared and what was observed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from . import codec, holding, naming
from .fleet import FleetSpec, SingleSpec
from .host import Host
from .provider import Template
from .template import TemplateSpec
from .trust import Trust, shown

UNKNOWN_GENERATION = "known after the template is built"


@dataclass(frozen=True)
class Action:
    """One thing to do to one object.

    :param verb: ``build``, ``create``, ``replace``, ``start``, ``restart``, ``renew``, ``relabel`` or ``destroy``; for
        a client certificate ``issue`` or ``revoke``; for a lease ``lease``, ``extend`` or ``issue``; for a file
        ``remove``.
    :param kind: ``template``, ``host``, ``client``, ``lease`` or ``file``.
    :param reason: why, in words.
    :param before: what is there, for a diff.
    :param after: what will be there.
    """

    verb: str
    kind: str
    name: str
    reason: str
    before: dict[str, Any]
    after: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.verb} {self.kind} {self.name}: {self.reason}"


@dataclass(frozen=True)
class Plan:
    """Actions in the order in which they are taken. An empty plan is falsy: all is as declared."""

    actions: tuple[Action, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.actions)

    def diff(self) -> dict[str, dict[str, Any]]:
        """Before and after of everything that changes, by ``kind name``."""
        return {
            "before": {f"{a.kind} {a.name}": a.before for a in self.actions if a.before},
            "after": {f"{a.kind} {a.name}": a.after for a in self.actions if a.after},
        }


def plan_template(spec: TemplateSpec, declared: str, found: Iterable[Template]) -> Plan:
    """What is to be done for a template.

    :param declared: digest of the declaration.
    """
    after = {"recipe": declared[:12], "docker": spec.docker, **codec.to_dict(spec.hardware)}
    mine = generations(spec.tenant, spec.name, found)
    if any(t.usable and t.record.recipe == declared for t in mine):
        return Plan()
    current = newest(mine)
    if current is None:
        reason = _why_unusable(mine)
        return Plan((Action("build", "template", spec.name, reason, {}, after),))
    before = {
        "recipe": current.record.recipe[:12],
        "docker": current.record.docker,
        **codec.to_dict(current.record.hardware),
    }
    damaged = next((t for t in reversed(mine) if t.record.recipe == declared and t.problem), None)
    reason = damaged.problem if damaged else "its declaration changed"
    return Plan((Action("build", "template", spec.name, reason, before, after),))


def _why_unusable(mine: list[Template]) -> str:
    if not mine:
        return "there is none"
    return next((t.problem for t in reversed(mine) if t.problem), "it was left half-made")


def generations(tenant: str, name: str, found: Iterable[Template]) -> list[Template]:
    """All generations of a template, oldest first."""
    mine = [t for t in found if (t.record.tenant, t.record.name) == (tenant, name)]
    return sorted(mine, key=lambda t: t.record.created)


def newest(found: Iterable[Template]) -> Template | None:
    """The newest generation that forks can be made of."""
    usable = [t for t in found if t.usable]
    return max(usable, key=lambda t: t.record.created, default=None)


def plan_fleet(
    spec: FleetSpec, generation: str, found: Iterable[Host], taken: Iterable[str] = (), trust: Trust | None = None,
    now: float = 0.0,
) -> Plan:  # fmt: skip
    """What is to be done for a fleet.

    :param generation: the template's generation that hosts are to have; :data:`UNKNOWN_GENERATION` in check mode.
    :param found: all hosts of the yard.
    :param taken: names that no new host can have, whatever has them.
    :param trust: what its hosts are to be admitted with; not looked at when it is not given.
    :param now: what leases and times to live are held against.
    """
    tenants = [h for h in found if h.record.tenant == spec.tenant]
    mine = {h.record.name: h for h in tenants if h.record.fleet == spec.name}
    wanted = _wanted(spec, generation)
    share = holding.share(spec, mine.values(), now)
    kept = _kept(share.free, wanted, share.count)
    fresh_count = max(0, share.count - len(kept))
    kept |= {h.record.name for h in share.held}
    gone = [h for name, h in mine.items() if name not in kept]
    others = {*taken, *(h.record.name for h in tenants)} - mine.keys()
    fresh = naming.lowest_free(spec.name, kept | others, fresh_count)
    # A name that is freed by a destroyed host may be given again in the same run: destroy comes first.
    actions = [_destroy(h, share.count + len(share.held), now) for h in sorted(gone, key=_ordinal)]
    actions += [Action("create", "host", n, "the fleet is short of it", {}, wanted) for n in fresh]
    for host in sorted((mine[n] for n in kept), key=_ordinal):
        actions += host_actions(host, wanted, spec.labels, trust)
    return Plan(tuple(actions))


def host_actions(
    host: Host, wanted: dict[str, Any], labels: dict[str, str], trust: Trust | None = None
) -> list[Action]:
    """What is to be done to one host that stays."""
    record, name = host.record, host.record.name
    # A leased host is its holder's: what is declared of its fleet now is for the one that comes after it.
    changed = [] if record.lease else _changed(host, wanted)
    if changed:
        return [Action("replace", "host", name, f"{', '.join(changed)} changed", _as_it_is(host), wanted)]
    actions = []
    if host.state != "running":
        actions.append(
            Action("start", "host", name, f"it is {host.state}", {"state": host.state}, {"state": "running"})
        )
    actions += plan_renewal(host, trust)
    if record.labels != labels:
        actions.append(
            Action("relabel", "host", name, "labels changed", {"labels": record.labels}, {"labels": dict(labels)})
        )
    return actions


def plan_renewal(host: Host, trust: Trust | None) -> list[Action]:
    """Admit a host anew where it is, if that is due."""
    identity = host.record.identity
    reasons = trust.reasons(identity) if trust else []
    if not (trust and identity and reasons):
        return []
    return [Action("renew", "host", host.record.name, "; ".join(reasons), shown(identity), trust.shown())]


def plan_host(spec: SingleSpec, state: str, generation: str, host: Host | None, trust: Trust | None = None) -> Plan:
    """What is to be done for one host by name.

    :param state: ``present``, ``absent``, ``restarted`` or ``replaced``.
    :param generation: what a new host would have.
    :param trust: what it is to be admitted with; not looked at when it is not given.
    """
    if state == "absent":
        return plan_destroy((), [host] if host else [], "it is to be absent")
    wanted = {"generation": _shown(generation), **codec.to_dict(spec.host), "labels": dict(spec.labels)}
    if host is None:
        return Plan((Action("create", "host", spec.name, "there is none", {}, wanted),))
    before = {"generation": host.record.generation[:12], "state": host.state}
    if host.record.phase != "ready":
        return Plan((Action("replace", "host", spec.name, "it was left half-made", before, wanted),))
    if state == "replaced":
        return Plan(
            (Action("replace", "host", spec.name, "it was asked for", before, {"generation": _shown(generation)}),)
        )
    if state == "restarted":
        after = {**before, "state": "running"}
        restart = Action("restart", "host", spec.name, "it was asked for", before, after)
        return Plan((restart, *plan_renewal(host, trust)))
    return Plan(tuple(host_actions(host, wanted, spec.labels, trust)))


def plan_destroy(templates: Iterable[Template], hosts: Iterable[Host], reason: str) -> Plan:
    """Take all of these away, hosts first."""
    actions = [_gone("host", h.record.name, reason, {"state": h.state}) for h in hosts]
    actions += [_gone("template", t.record.name, reason, {"generation": t.record.generation[:12]}) for t in templates]
    return Plan(tuple(actions))


def _kept(found: Iterable[Host], wanted: dict[str, Any], count: int) -> set[str]:
    """The hosts worth keeping: complete ones; the serving and up-to-date first, then the lowest numbers."""
    whole = [h for h in found if h.record.phase == "ready"]
    whole.sort(key=lambda h: (not h.serving, bool(_changed(h, wanted)), _ordinal(h)))
    return {h.record.name for h in whole[:count]}


def _as_it_is(host: Host) -> dict[str, Any]:
    record = host.record
    return {"generation": record.generation[:12], **codec.to_dict(record.spec), "labels": record.labels}


def _changed(host: Host, wanted: dict[str, Any]) -> list[str]:
    """What cannot be changed in place, and differs."""
    before = _as_it_is(host)
    return sorted(k for k in wanted if k != "labels" and wanted[k] != before[k])


def _ordinal(host: Host) -> tuple[int, str]:
    tail = host.record.name.rpartition("-")[2]
    return (int(tail) if tail.isdigit() else 0, host.record.name)


def _wanted(spec: FleetSpec, generation: str) -> dict[str, Any]:
    return {"generation": _shown(generation), **codec.to_dict(spec.host), "labels": dict(spec.labels)}


def _destroy(host: Host, count: int, now: float) -> Action:
    half = f"it was left half-made ({host.record.phase})" if host.record.phase != "ready" else ""
    reason = half or holding.why_over(host.record, now) or f"the fleet is to have {count}"
    return _gone("host", host.record.name, reason, {"state": host.state})


def _gone(kind: str, name: str, reason: str, before: dict[str, Any]) -> Action:
    return Action("destroy", kind, name, reason, before, {})


def _shown(generation: str) -> str:
    return generation if generation == UNKNOWN_GENERATION else generation[:12]
