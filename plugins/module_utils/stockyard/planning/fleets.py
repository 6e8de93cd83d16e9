# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done for a fleet: which hosts stay, which go, and in which order others take their
places.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import Conflict
from ..model import codec, naming
from ..model.fleet import FleetSpec
from ..model.host import HOST_PHASES, Host
from ..model.network import clash
from . import lease_policy, plan, resize
from .plan import Action, Plan
from .trust import Trust

ALWAYS = "every run makes it anew"
LEFT = {phase: f"it was left half-made ({phase})" for phase in HOST_PHASES if phase != "ready"} | {
    "draining": "it was on its way out"
}


@dataclass
class HostPartition:
    """The hosts of a fleet, sorted by what becomes of them.

    :param discard: serve nobody and are not wanted: they go first.
    :param keep: as declared, or held by somebody.
    :param replace_in_place: not as declared; each is made anew under its own name.
    :param roll_out: not as declared, or too many; they go when others serve in their places.
    :param reasons: why one does not stay, by name.
    :param outdated: names of those that are not as declared.
    :param size: how many there are to be in all, those among them that somebody leased.
    :param max_total: how many there can be at any time; ``None`` for any number.
    """

    size: int
    discard: list[Host] = field(default_factory=list)
    keep: list[Host] = field(default_factory=list)
    replace_in_place: list[Host] = field(default_factory=list)
    roll_out: list[Host] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    outdated: set[str] = field(default_factory=set)
    max_total: int | None = None


def plan_fleet(
    spec: FleetSpec,
    generation: str,
    found: Iterable[Host],
    taken: Iterable[str] = (),
    trust: Trust | None = None,
    unhealthy: Mapping[str, str] | None = None,
    now: float = 0.0,
    room: int | None = None,
) -> Plan:
    """What is to be done for a fleet.

    :param generation: the template's generation that hosts are to have; :data:`UNKNOWN_GENERATION`
        in check mode.
    :param found: all hosts of the yard.
    :param taken: names that no new host can have, whatever has them.
    :param trust: what its hosts are to be admitted with; not looked at when it is not given.
    :param unhealthy: hosts that run and do not answer, by name, each with the reason.
    :param now: what leases and times to live are held against.
    :param room: how many hosts more its pool has room for; ``None`` for any number.
    :raises Conflict: when a name that is declared is somebody else's.
    :raises InvalidInput: when the rules of its update leave no way to replace a host.
    """
    tenants = [h for h in found if h.record.tenant == spec.tenant]
    mine = {h.record.name: h for h in tenants if h.record.fleet == spec.name}
    others = {*taken, *(h.record.name for h in tenants)} - mine.keys()
    _refuse_taken(spec, others)
    wanted = {
        "generation": plan.as_shown(generation),
        **codec.to_dict(spec.host),
        "labels": dict(spec.labels),
    }
    crew = _sorted_out(spec, wanted, mine.values(), unhealthy or {}, now)
    crew.max_total = None if room is None else len(mine) + room
    rolled, swapped = list(_rolled(spec, crew, wanted, others)), list(_swapped(spec, crew, wanted))
    # Where all go at once, nothing is made beside them; else what is missing is made before
    # anything else goes.
    later = [*swapped, *rolled] if spec.update.strategy == "recreate" else [*rolled, *swapped]
    waves = [wave for wave in [_first(spec, crew, trust), *later] if wave]
    return Plan(tuple(replace(action, wave=n) for n, wave in enumerate(waves) for action in wave))


def _refuse_taken(spec: FleetSpec, others: set[str]) -> None:
    for name in spec.named:
        if name in others:
            raise Conflict(
                "its name is taken.",
                name=f"host {name}",
                cause=f"a host that is not of fleet {spec.name} has it",
                remedy="choose another name",
            )


def _sorted_out(
    spec: FleetSpec,
    wanted: dict[str, Any],
    mine: Iterable[Host],
    unhealthy: Mapping[str, str],
    now: float,
) -> HostPartition:
    share = lease_policy.share(spec, mine, now)
    # Who leased a host keeps it as it is, whatever is declared.
    crew, current, stale = (
        HostPartition(share.count + len(share.held), keep=list(share.held)),
        [],
        [],
    )
    for host in sorted((*share.over, *share.free), key=ordinal):
        why = lease_policy.why_over(host.record, now) or _why(spec, host, wanted, unhealthy)
        if host.record.phase != "ready" or host.record.lease:
            crew.discard.append(host)
            crew.reasons[host.record.name] = LEFT.get(host.record.phase, why)
        elif why or (spec.names and host.record.name not in spec.named):
            stale.append(host)
            crew.reasons[host.record.name] = (
                why or f"the fleet is to have {', '.join(spec.named) or 'none here'}"
            )
        else:
            current.append(host)
    # The serving ones first, then the lowest numbers.
    current.sort(key=lambda h: not h.serving)
    spare = max(0, crew.size - len(crew.keep))
    crew.keep += current[:spare]
    _dismissed(spec, crew, stale, current[spare:], unhealthy)
    return crew


def _dismissed(
    spec: FleetSpec,
    crew: HostPartition,
    stale: list[Host],
    surplus: list[Host],
    unhealthy: Mapping[str, str],
) -> None:
    """Say how each host goes that does not stay. Who does not answer goes before who does."""
    crew.reasons.update({h.record.name: f"the fleet is to have {crew.size}" for h in surplus})
    crew.outdated = {h.record.name for h in stale}
    crew.discard += [h for h in [*stale, *surplus] if not h.serving]
    crew.discard.sort(key=ordinal)
    going = sorted(
        (h for h in stale if h.serving), key=lambda h: (h.record.name not in unhealthy, ordinal(h))
    )
    swappable = [h for h in going if spec.names or spec.update.strategy == "recreate"]
    if spec.names:
        swappable = [h for h in swappable if h.record.name in spec.named]
    crew.replace_in_place = swappable[: max(0, crew.size - len(crew.keep))]
    names = {h.record.name for h in crew.replace_in_place}
    crew.roll_out = [h for h in going if h.record.name not in names] + [
        h for h in surplus if h.serving
    ]


def _why(spec: FleetSpec, host: Host, wanted: dict[str, Any], unhealthy: Mapping[str, str]) -> str:
    """Why a host is to be replaced; empty when it is not."""
    record = host.record
    same = (record.spec, record.generation[:12]) == (spec.host, wanted["generation"])
    changed = [] if same else plan.changes(host, wanted)
    changed += [
        f"label {k}" for k in spec.replace_on_labels if record.labels.get(k) != spec.labels.get(k)
    ]
    why = resize.in_place(record, spec.host) if resize.only_size(changed) else ""
    if changed and (why or not resize.only_size(changed)):
        return f"{', '.join(changed)} changed{f', and {why}' * bool(why)}"
    return unhealthy.get(record.name, ALWAYS if spec.recreate == "always" else "")


def _first(spec: FleetSpec, crew: HostPartition, trust: Trust | None) -> list[Action]:
    """What costs nobody anything: useless hosts go, and those that stay are mended
    where they are.
    """
    actions = [_goes(h, crew) for h in crew.discard]
    for host in sorted(crew.keep, key=ordinal):
        actions += plan.mending(host, spec.labels, trust, spec.host)
    return actions


def _rolled(
    spec: FleetSpec, crew: HostPartition, wanted: dict[str, Any], others: set[str]
) -> Iterator[list[Action]]:
    """Waves that make hosts and take others away, with never too many and never too few of them."""
    need = max(0, crew.size - len(crew.keep) - len(crew.replace_in_place))
    surge, lacking = _bounds(spec, crew, crew.roll_out if need else [])
    room, floor = crew.size + surge, crew.size - lacking
    names = _Names(spec, others, [*crew.keep, *crew.replace_in_place, *crew.roll_out])
    places, leave = (
        deque(h for h in crew.roll_out if h.record.name in crew.outdated),
        deque(crew.roll_out),
    )
    total = len(crew.keep) + len(crew.replace_in_place) + len(leave)
    while need or leave:
        new = max(0, min(need, room - total))
        if new:
            yield [
                _comes(names.take(), places.popleft() if places else None, crew, wanted)
                for _n in range(new)
            ]
        need, total = need - new, total + new
        going = [leave.popleft() for _n in range(min(len(leave), max(0, total - floor)))]
        if going:
            yield [_goes(h, crew) for h in going]
        names.free(h.record.name for h in going)
        total -= len(going)


def _swapped(
    spec: FleetSpec, crew: HostPartition, wanted: dict[str, Any]
) -> Iterator[list[Action]]:
    """Waves in which hosts are made anew under their own names."""
    size = (
        len(crew.replace_in_place)
        if spec.update.strategy == "recreate"
        else spec.update.bounds(spec.beside)[1]
    )
    for start in range(0, len(crew.replace_in_place), max(1, size)):
        yield [
            Action(
                "replace",
                "host",
                h.record.name,
                crew.reasons[h.record.name],
                plan.as_it_is(h),
                wanted,
            )
            for h in crew.replace_in_place[start : start + size]
        ]


def _bounds(spec: FleetSpec, crew: HostPartition, there: Iterable[Host]) -> tuple[int, int]:
    """How many hosts too many and too few there may be, while these are there."""
    if spec.update.strategy == "recreate":
        return 0, crew.size
    ports = () if spec.host.network else spec.host.ports
    wanted = frozenset((spec.host.bind, port) for port in ports)
    surge, lacking = spec.update.bounds(
        spec.beside and not any(clash(wanted, h.record.published) for h in there)
    )
    most = min(n for n in (spec.max or None, crew.max_total, crew.size + surge) if n is not None)
    if most >= crew.size + surge:
        return surge, lacking
    surge = max(0, most - crew.size)
    return surge, lacking if surge else max(1, lacking)


def _comes(name: str, old: Host | None, crew: HostPartition, wanted: dict[str, Any]) -> Action:
    reason = (
        f"in the place of {old.record.name}: {crew.reasons[old.record.name]}"
        if old
        else "the fleet is short of it"
    )
    return Action("create", "host", name, reason, {}, wanted)


def _goes(host: Host, crew: HostPartition) -> Action:
    name = host.record.name
    before = plan.as_it_is(host) if name in crew.outdated else {"state": host.state}
    return plan.gone("host", name, crew.reasons[name], before)


def ordinal(host: Host) -> tuple[int, str]:
    """Where a host stands among those of its fleet."""
    tail = host.record.name.rpartition("-")[2]
    return (int(tail) if tail.isdecimal() and len(tail) < 10 else 0, host.record.name)


class _Names:
    """Names for new hosts: the declared ones in their order, else the lowest numbers
    that are free.
    """

    def __init__(self, spec: FleetSpec, others: set[str], there: Iterable[Host]) -> None:
        self._spec = spec
        self._used = {*others, *(h.record.name for h in there)}
        self._free = [n for n in spec.named if n not in self._used]
        self._last = 0
        self._freed: list[int] = []

    def take(self) -> str:
        """The next name."""
        if self._spec.names:
            return self._free.pop(0)
        if self._freed:
            return naming.ordinal_name(self._spec.prefix, heapq.heappop(self._freed))
        while True:
            self._last += 1
            name = naming.ordinal_name(self._spec.prefix, self._last)
            if name not in self._used:
                return name

    def free(self, names: Iterable[str]) -> None:
        """Give names back that are no longer used."""
        for name in names:
            self._used.discard(name)
            prefix, _hyphen, tail = name.rpartition("-")
            # What lies ahead is found without being told.
            if (
                prefix == self._spec.prefix
                and tail.isdecimal()
                and str(int(tail)) == tail
                and 0 < int(tail) <= self._last
            ):
                heapq.heappush(self._freed, int(tail))
