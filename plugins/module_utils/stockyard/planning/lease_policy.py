# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The leased, ended and free hosts of a fleet, and the number of free hosts to have. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from ..model.fleet import FleetSpec
from ..model.host import SUSPENDED, Host, HostRecord
from ..model.lease import LeaseSpec


@dataclass(frozen=True)
class LeasePartition:
    """The hosts of a fleet, sorted by their leases.

    :param held: leased now: they stay as they are, regardless of the declaration.
    :param over: their lease or their time to live ended: they are deleted.
    :param free: all other hosts.
    :param count: the number of hosts without a lease to have.
    """

    held: tuple[Host, ...]
    over: tuple[Host, ...]
    free: tuple[Host, ...]
    count: int


def partition(spec: FleetSpec, hosts: Iterable[Host], current_time: float) -> LeasePartition:
    """Return the hosts of a fleet, sorted by their leases."""
    leased_hosts: list[Host] = []
    ended_hosts: list[Host] = []
    free_hosts: list[Host] = []
    for host in hosts:
        (
            leased_hosts
            if is_held(host.record, current_time)
            else ended_hosts
            if deletion_reason(host.record, current_time)
            else free_hosts
        ).append(host)
    return LeasePartition(
        tuple(leased_hosts),
        tuple(ended_hosts),
        tuple(free_hosts),
        unleased(spec.size, spec.min_ready, spec.max, len(leased_hosts)),
    )


def unleased(count: int, min_ready: int, maximum: int, leased_count: int) -> int:
    """Return the number of hosts without a lease that a fleet must have.

    ``count`` in all, leased hosts included; more if fewer than ``min_ready`` would remain; never
    more than ``maximum`` in all (0: no limit).
    """
    total = max(count, leased_count + min_ready)
    return max(0, (min(total, maximum) if maximum else total) - leased_count)


def is_held(record: HostRecord, current_time: float) -> bool:
    """Return whether a host is leased. A host that is being deleted is not leased."""
    return (
        record.phase == "ready"
        and record.lease is not None
        and not record.lease.ended(current_time)
    )


def deletion_reason(record: HostRecord, current_time: float) -> str:
    """Return the reason to delete a complete host; empty if there is none. A lease stays valid even
    after the end of the host's own time to live.
    """
    if record.phase != "ready" or is_held(record, current_time):
        return ""
    if record.lease is not None:
        return f"its lease by {record.lease.holder} expired"
    return "its time to live ended" if record.expires and record.expires <= current_time else ""


def why_not(host: Host, authority: str, current_time: float) -> str:
    """Return the reason why a requested host cannot be leased now; empty if it can.

    :param authority: fingerprint of the CA that would sign the certificate.
    """
    record = host.record
    if not (host.serving or host.asleep):
        state = SUSPENDED if host.suspended else host.state
        return f"it is {record.phase if record.phase != 'ready' else state}"
    if record.lease is not None:
        return (
            f"it is leased by {record.lease.holder}"
            if is_held(record, current_time)
            else deletion_reason(record, current_time)
        )
    if deletion_reason(record, current_time):
        return deletion_reason(record, current_time)
    if record.identity is None or not record.identity.leasable:
        return "its certificate was made before leases existed: replace the host"
    return (
        ""
        if record.identity.authority == authority
        else "it trusts a different CA: converge its fleet"
    )


def asked_for(spec: LeaseSpec, hosts: Iterable[Host]) -> list[Host]:
    """Return the hosts that a lease can choose from. They are members of fleets, because hosts of a
    fleet are identical; a host outside fleets belongs to one user.
    """
    return [
        host
        for host in hosts
        if host.record.fleet
        and host.record.tenant == spec.tenant
        and spec.fleet in ("", host.record.fleet)
        and spec.pool in ("", host.record.spec.pool)
        and spec.labels.items() <= host.record.labels.items()
    ]


def in_turn(candidates: Iterable[Host], lease: str) -> list[Host]:
    """Return the hosts in the order in which a lease tries them: running hosts before idle ones,
    which must be resumed; hosts of the newest generation first, because they live longest; within
    a generation in a different order for each lease, so that simultaneous requests do not all try
    the same host.
    """
    hosts = list(candidates)
    creation_times: dict[str, float] = {}
    for record in (host.record for host in hosts):
        creation_times[record.generation] = max(
            record.created, creation_times.get(record.generation, 0.0)
        )
    return sorted(
        hosts,
        key=lambda host: (
            host.record.idle,
            -creation_times[host.record.generation],
            _drawn(host.record, lease),
        ),
    )


def _drawn(record: HostRecord, lease: str) -> str:
    return hashlib.sha256(f"{lease} {record.uuid}".encode()).hexdigest()
