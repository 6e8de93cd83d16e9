# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts of a fleet are held, which are over, which are free, and how many of these there are
to be. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from ..model.fleet import FleetSpec
from ..model.host import Host, HostRecord
from ..model.lease import LeaseSpec


@dataclass(frozen=True)
class LeasePartition:
    """The hosts of a fleet by what may be done with them.

    :param held: leased now: they stay as they are, whatever is declared.
    :param over: their lease or their time ended: they go.
    :param free: all others.
    :param count: how many of the others there are to be.
    """

    held: tuple[Host, ...]
    over: tuple[Host, ...]
    free: tuple[Host, ...]
    count: int


def share(spec: FleetSpec, mine: Iterable[Host], now: float) -> LeasePartition:
    """Sort the hosts of a fleet."""
    held: list[Host] = []
    over: list[Host] = []
    free: list[Host] = []
    for host in mine:
        (
            held if is_held(host.record, now) else over if why_over(host.record, now) else free
        ).append(host)
    return LeasePartition(
        tuple(held),
        tuple(over),
        tuple(free),
        unleased(spec.size, spec.min_ready, spec.max, len(held)),
    )


def unleased(count: int, min_ready: int, most: int, held: int) -> int:
    """How many hosts a fleet is to have beside those that are held.

    ``count`` in all, held ones among them; more where fewer than ``min_ready`` would be left; never
    so many that there are more than ``most`` in all (0: no limit).
    """
    total = max(count, held + min_ready)
    return max(0, (min(total, most) if most else total) - held)


def is_held(record: HostRecord, now: float) -> bool:
    """Whether somebody has it. A host that is being taken away is nobody's."""
    return record.phase == "ready" and record.lease is not None and not record.lease.ended(now)


def why_over(record: HostRecord, now: float) -> str:
    """Why a complete host is to go; empty when it is not. A lease is kept even where the host's own
    time is over.
    """
    if record.phase != "ready" or is_held(record, now):
        return ""
    if record.lease is not None:
        return f"its lease by {record.lease.holder} ended"
    return "its time to live is over" if record.expires and record.expires <= now else ""


def why_not(host: Host, authority: str, now: float) -> str:
    """Why a host that was asked for cannot be leased now; empty when it can.

    :param authority: fingerprint of the CA that the certificate would come from.
    """
    record = host.record
    if not host.serving:
        return f"it is {record.phase if record.phase != 'ready' else host.state}"
    if record.lease is not None:
        return f"{record.lease.holder} has it" if is_held(record, now) else why_over(record, now)
    if why_over(record, now):
        return why_over(record, now)
    if record.identity is None or not record.identity.leasable:
        return "it was admitted before there were leases: replace it"
    return (
        "" if record.identity.authority == authority else "it trusts another CA: converge its fleet"
    )


def asked_for(spec: LeaseSpec, found: Iterable[Host]) -> list[Host]:
    """The hosts that a lease may be of: members of fleets, as they are alike. A host of its own is
    somebody's.
    """
    return [
        h
        for h in found
        if h.record.fleet
        and h.record.tenant == spec.tenant
        and spec.fleet in ("", h.record.fleet)
        and spec.pool in ("", h.record.spec.pool)
        and spec.labels.items() <= h.record.labels.items()
    ]


def in_turn(found: Iterable[Host], lease: str) -> list[Host]:
    """The order in which they are tried: those of the newest generation first, which live longest;
    among these another order for each lease, so that many who ask at once do not all ask for the
    same one.
    """
    hosts = list(found)
    born: dict[str, float] = {}
    for record in (h.record for h in hosts):
        born[record.generation] = max(record.created, born.get(record.generation, 0.0))
    return sorted(hosts, key=lambda h: (-born[h.record.generation], _drawn(h.record, lease)))


def _drawn(record: HostRecord, lease: str) -> str:
    return hashlib.sha256(f"{lease} {record.uuid}".encode()).hexdigest()
