# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a fleet: the hosts to keep, the hosts to delete, and the order in which new hosts
replace old ones.
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

ALWAYS = "every run replaces it"
LEFT = {phase: f"it is incomplete ({phase})" for phase in HOST_PHASES if phase != "ready"} | {
    "draining": "its deletion was interrupted"
}


@dataclass
class HostPartition:
    """The hosts of a fleet, sorted by the action that the plan takes on them.

    :param discard: hosts that do not serve and are not needed; they are deleted first.
    :param keep: hosts that are as declared, or leased.
    :param replace_in_place: hosts that are not as declared; each is replaced under its own name.
    :param roll_out: hosts that are not as declared, or surplus; they are deleted when new hosts
        serve in their places.
    :param reasons: the reason why a host does not stay, by name.
    :param outdated: names of the hosts that are not as declared.
    :param size: the number of hosts to have in all, leased hosts included.
    :param max_total: the largest number of hosts at any time; ``None`` for any number.
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
    hosts: Iterable[Host],
    reserved_names: Iterable[str] = (),
    trust: Trust | None = None,
    unhealthy: Mapping[str, str] | None = None,
    now: float = 0.0,
    headroom: int | None = None,
) -> Plan:
    """Return the plan of a fleet.

    :param generation: the template's generation that hosts must have; :data:`UNKNOWN_GENERATION` in
        check mode.
    :param hosts: all hosts of the yard.
    :param reserved_names: names that no new host can have, for any reason.
    :param trust: the trust that its hosts must have; not compared if ``None``.
    :param unhealthy: hosts that run and do not answer, by name, each with the reason.
    :param now: the time that leases and times to live are compared with.
    :param headroom: the number of further hosts that the quota of its pool allows; ``None`` for any
        number.
    :raises Conflict: if a declared name belongs to a host outside the fleet.
    :raises InvalidInput: if the rules of its update leave no way to replace a host.
    """
    tenant_hosts = [host for host in hosts if host.record.tenant == spec.tenant]
    own_hosts = {host.record.name: host for host in tenant_hosts if host.record.fleet == spec.name}
    foreign_names = {
        *reserved_names,
        *(host.record.name for host in tenant_hosts),
    } - own_hosts.keys()
    _refuse_taken(spec, foreign_names)
    desired = {
        "generation": plan.as_shown(generation),
        **codec.to_dict(spec.host),
        "labels": dict(spec.labels),
    }
    partition = _sorted_out(spec, desired, own_hosts.values(), unhealthy or {}, now)
    partition.max_total = None if headroom is None else len(own_hosts) + headroom
    rolling_waves, swap_waves = (
        list(_rolled(spec, partition, desired, foreign_names)),
        list(_swapped(spec, partition, desired)),
    )
    # If all hosts are replaced at once, no additional host is created before that; else missing
    # hosts are created before others are deleted.
    later_waves = (
        [*swap_waves, *rolling_waves]
        if spec.update.strategy == "recreate"
        else [*rolling_waves, *swap_waves]
    )
    waves = [wave for wave in [_first(spec, partition, trust), *later_waves] if wave]
    return Plan(
        tuple(replace(action, wave=number) for number, wave in enumerate(waves) for action in wave)
    )


def _refuse_taken(spec: FleetSpec, foreign_names: set[str]) -> None:
    for name in spec.named:
        if name in foreign_names:
            raise Conflict(
                "the name is in use.",
                name=f"host {name}",
                cause=f"a host outside fleet {spec.name} has this name",
                remedy="choose another name",
            )


def _sorted_out(
    spec: FleetSpec,
    desired: dict[str, Any],
    own_hosts: Iterable[Host],
    unhealthy: Mapping[str, str],
    current_time: float,
) -> HostPartition:
    lease_partition = lease_policy.partition(spec, own_hosts, current_time)
    # A leased host stays as it is, regardless of the declaration.
    partition, current_hosts, outdated_hosts = (
        HostPartition(
            lease_partition.count + len(lease_partition.held), keep=list(lease_partition.held)
        ),
        [],
        [],
    )
    for host in sorted((*lease_partition.over, *lease_partition.free), key=ordinal):
        reason = lease_policy.deletion_reason(host.record, current_time) or _why(
            spec, host, desired, unhealthy
        )
        if host.record.phase != "ready" or host.record.lease:
            partition.discard.append(host)
            partition.reasons[host.record.name] = LEFT.get(host.record.phase, reason)
        elif reason or (spec.names and host.record.name not in spec.named):
            outdated_hosts.append(host)
            partition.reasons[host.record.name] = (
                reason
                or f"the fleet must have {', '.join(spec.named) or 'no hosts on this hypervisor'}"
            )
        else:
            current_hosts.append(host)
    # Serving hosts first, then the lowest numbers.
    current_hosts.sort(key=lambda candidate: not candidate.serving)
    unfilled_count = max(0, partition.size - len(partition.keep))
    partition.keep += current_hosts[:unfilled_count]
    _dismissed(spec, partition, outdated_hosts, current_hosts[unfilled_count:], unhealthy)
    return partition


def _dismissed(
    spec: FleetSpec,
    partition: HostPartition,
    outdated_hosts: list[Host],
    surplus_hosts: list[Host],
    unhealthy: Mapping[str, str],
) -> None:
    """Sort the hosts that do not stay by how they are deleted or replaced. Hosts that do not answer
    come first.
    """
    partition.reasons.update(
        {host.record.name: f"the fleet must have {partition.size}" for host in surplus_hosts}
    )
    partition.outdated = {host.record.name for host in outdated_hosts}
    # A suspended host is resumed before it is replaced, so that it serves until then.
    partition.discard += [
        host for host in outdated_hosts if host.asleep or not (host.serving or host.suspended)
    ]
    partition.discard += [host for host in surplus_hosts if not host.serving]
    partition.discard.sort(key=ordinal)
    outgoing_hosts = sorted(
        (host for host in outdated_hosts if host.serving or (host.suspended and not host.asleep)),
        key=lambda host: (host.record.name not in unhealthy, ordinal(host)),
    )
    swap_candidates = [
        host for host in outgoing_hosts if spec.names or spec.update.strategy == "recreate"
    ]
    if spec.names:
        swap_candidates = [host for host in swap_candidates if host.record.name in spec.named]
    partition.replace_in_place = swap_candidates[: max(0, partition.size - len(partition.keep))]
    names = {host.record.name for host in partition.replace_in_place}
    partition.roll_out = [host for host in outgoing_hosts if host.record.name not in names] + [
        host for host in surplus_hosts if host.serving
    ]


def _why(spec: FleetSpec, host: Host, desired: dict[str, Any], unhealthy: Mapping[str, str]) -> str:
    """Return the reason to replace a host; empty if the host can stay."""
    record = host.record
    unchanged = (record.spec, record.generation[:12]) == (spec.host, desired["generation"])
    changed_fields = [] if unchanged else plan.changes(host, desired)
    changed_fields += [
        f"label {key}"
        for key in spec.replace_on_labels
        if record.labels.get(key) != spec.labels.get(key)
    ]
    resize_problem = resize.in_place(record, spec.host) if resize.only_size(changed_fields) else ""
    if changed_fields and (resize_problem or not resize.only_size(changed_fields)):
        return (
            f"{', '.join(changed_fields)} changed{f', and {resize_problem}' * bool(resize_problem)}"
        )
    return unhealthy.get(record.name, ALWAYS if spec.recreate == "always" else "")


def _first(spec: FleetSpec, partition: HostPartition, trust: Trust | None) -> list[Action]:
    """Return the actions that interrupt no user: delete the discarded hosts, resume hosts that are
    replaced later, and correct the kept hosts in place.
    """
    actions = [_goes(discarded_host, partition) for discarded_host in partition.discard]
    outgoing_hosts = [*partition.roll_out, *partition.replace_in_place]
    actions += [plan.plan_resume(host) for host in outgoing_hosts if host.suspended]
    for host in sorted(partition.keep, key=ordinal):
        stays_asleep = host.asleep and bool(spec.suspend_after) and not host.record.lease
        actions += plan.in_place_actions(
            host, spec.labels, trust, spec.host, stays_asleep=stays_asleep
        )
    return actions


def _rolled(
    spec: FleetSpec, partition: HostPartition, desired: dict[str, Any], foreign_names: set[str]
) -> Iterator[list[Action]]:
    """Return waves that create and delete hosts, with never too many and never too few hosts."""
    missing = max(0, partition.size - len(partition.keep) - len(partition.replace_in_place))
    surge, shortfall = _bounds(spec, partition, partition.roll_out if missing else [])
    ceiling, floor = partition.size + surge, partition.size - shortfall
    names = _Names(
        spec, foreign_names, [*partition.keep, *partition.replace_in_place, *partition.roll_out]
    )
    replaced_hosts, departures = (
        deque(host for host in partition.roll_out if host.record.name in partition.outdated),
        deque(partition.roll_out),
    )
    total = len(partition.keep) + len(partition.replace_in_place) + len(departures)
    while missing or departures:
        new_count = max(0, min(missing, ceiling - total))
        if new_count:
            shortage = f"the fleet has {total} of {partition.size} hosts"
            yield [
                _comes(
                    names.next_name(),
                    replaced_hosts.popleft() if replaced_hosts else None,
                    partition,
                    desired,
                    shortage,
                )
                for _n in range(new_count)
            ]
        missing, total = missing - new_count, total + new_count
        outgoing_hosts = [
            departures.popleft() for _n in range(min(len(departures), max(0, total - floor)))
        ]
        if outgoing_hosts:
            yield [_goes(host, partition) for host in outgoing_hosts]
        names.free(host.record.name for host in outgoing_hosts)
        total -= len(outgoing_hosts)


def _swapped(
    spec: FleetSpec, partition: HostPartition, desired: dict[str, Any]
) -> Iterator[list[Action]]:
    """Return waves that replace hosts under their own names."""
    size = (
        len(partition.replace_in_place)
        if spec.update.strategy == "recreate"
        else spec.update.bounds(spec.starts_before_delete)[1]
    )
    for start in range(0, len(partition.replace_in_place), max(1, size)):
        yield [
            Action(
                "replace",
                "host",
                host.record.name,
                partition.reasons[host.record.name],
                plan.as_it_is(host),
                desired,
            )
            for host in partition.replace_in_place[start : start + size]
        ]


def _bounds(spec: FleetSpec, partition: HostPartition, existing: Iterable[Host]) -> tuple[int, int]:
    """Return how many hosts too many and too few are allowed while the existing hosts are
    present.
    """
    if spec.update.strategy == "recreate":
        return 0, partition.size
    ports = () if spec.host.network else spec.host.ports
    bindings = frozenset((spec.host.bind, port) for port in ports)
    surge, shortfall = spec.update.bounds(
        spec.starts_before_delete
        and not any(clash(bindings, host.record.published) for host in existing)
    )
    limits = (
        spec.max or None,
        partition.max_total,
        spec.host.publish_limit,
        partition.size + surge,
    )
    limit = min(number for number in limits if number is not None)
    if limit >= partition.size + surge:
        return surge, shortfall
    surge = max(0, limit - partition.size)
    return surge, shortfall if surge else max(1, shortfall)


def _comes(
    name: str,
    old: Host | None,
    partition: HostPartition,
    desired: dict[str, Any],
    shortage: str,
) -> Action:
    reason = (
        f"it replaces {old.record.name}: {partition.reasons[old.record.name]}" if old else shortage
    )
    return Action("create", "host", name, reason, {}, desired)


def _goes(host: Host, partition: HostPartition) -> Action:
    name = host.record.name
    before = plan.as_it_is(host) if name in partition.outdated else {"state": host.state}
    return plan.delete_action("host", name, partition.reasons[name], before)


def ordinal(host: Host) -> tuple[int, str]:
    """Return the position of a host in its fleet."""
    tail = host.record.name.rpartition("-")[2]
    return (int(tail) if tail.isdecimal() and len(tail) < 10 else 0, host.record.name)


class _Names:
    """Names for new hosts: the declared names in their order, else the lowest free numbers."""

    def __init__(self, spec: FleetSpec, foreign_names: set[str], hosts: Iterable[Host]) -> None:
        self._spec = spec
        self._used = {*foreign_names, *(host.record.name for host in hosts)}
        self._free = [name for name in spec.named if name not in self._used]
        self._last = 0
        self._freed: list[int] = []

    def next_name(self) -> str:
        """Return the next name."""
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
        """Make names available again after their hosts are deleted."""
        for name in names:
            self._used.discard(name)
            prefix, _hyphen, tail = name.rpartition("-")
            # Numbers above the last one are found by counting.
            if (
                prefix == self._spec.prefix
                and tail.isdecimal()
                and str(int(tail)) == tail
                and 0 < int(tail) <= self._last
            ):
                heapq.heappush(self._freed, int(tail))
