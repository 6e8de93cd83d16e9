# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases: a host that a named holder has until a time, and how long things last."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ..errors import InvalidInput
from . import naming

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 30 * UNITS["d"]
HOLDER_MAX = 100
# Bytes of the check value in the number of a lease.
CHECKED = 6
_DURATION = re.compile(r"([0-9]{1,9})([smhd]?)")


@dataclass(frozen=True)
class Lease:
    """A lease as it is on record, in the record of its host.

    Who knows its number may ask for more time or give the host back. It opens nothing: the key to
    the host is apart.

    :param id: a uuid, never given again; see :func:`lease_id`.
    :param holder: whose it is, in words.
    :param taken: when it began, in seconds since the epoch.
    :param until: when it ends. From then on nobody renews it: the host is taken away.
    :param certificate: serial number of the client certificate that goes with it, in hex.
    """

    id: str
    holder: str
    taken: float
    until: float
    certificate: str

    def __post_init__(self) -> None:
        naming.identifier(self.id)
        holder_name(self.holder)
        naming.moment("taken", self.taken)
        naming.moment("until", self.until)
        naming.serial("certificate", self.certificate)

    def ended(self, now: float) -> bool:
        """Whether its time is over."""
        return now >= self.until


@dataclass(frozen=True)
class LeaseSpec:
    """A lease that is asked for.

    :param fleet: the fleet that the host is to be of; any when empty.
    :param labels: what the host is to carry, at least.
    :param duration: how long, in seconds.
    :param pool: the pool that the host is to be in; any when empty.
    """

    holder: str
    fleet: str = ""
    tenant: str = "default"
    labels: dict[str, str] = field(default_factory=dict)
    duration: float = 3600.0
    pool: str = ""

    def __post_init__(self) -> None:
        holder_name(self.holder)
        naming.name("tenant", self.tenant)
        naming.labels(self.labels)
        if self.fleet:
            naming.name("fleet", self.fleet, naming.FLEET_NAME_MAX)
        if self.pool:
            naming.name("pool", self.pool)
        if not (self.fleet or self.labels or self.pool):
            raise InvalidInput(
                "nothing says which hosts may be leased.", remedy="name a fleet, labels or a pool"
            )
        check_duration(self.duration)

    @property
    def title(self) -> str:
        """What is asked for, in messages."""
        labels = ", ".join(f"{key}={value}" for key, value in sorted(self.labels.items()))
        named = [
            f"{what} {name}" for what, name in (("fleet", self.fleet), ("pool", self.pool)) if name
        ]
        return " with ".join(part for part in (" in ".join(named), labels) if part)


def lease_id(drawn: UUID, yard: str) -> str:
    """Return the number of a new lease: a random uuid whose last part is a check value of the rest
    and of the yard.

    The record of a lease goes with its host. The check value tells a lease that ended from a number
    that the yard never gave, on every controller, and nothing has to be kept for that.

    :param drawn: a random uuid.
    """
    head = drawn.bytes[:-CHECKED]
    return str(UUID(bytes=head + hashlib.sha256(head + yard.encode()).digest()[:CHECKED]))


def is_issued(lease: str, yard: str) -> bool:
    """Return whether a yard gave this number to a lease."""
    try:
        return lease_id(UUID(lease), yard) == lease
    except ValueError:
        return False


def check_duration(duration: float) -> None:
    """Check how long a lease is to last, in seconds."""
    if not 1 <= duration <= LONGEST:
        raise InvalidInput(
            f"duration: {duration:g} s is not between 1 s and 30 days.", remedy="write it as 45m"
        )


def holder_name(value: Any) -> str:
    """Check the name of a holder: a line of text, not empty."""
    if not naming.line("holder", value, HOLDER_MAX).strip():
        raise InvalidInput(
            "holder: there is nothing in it.",
            remedy="say who holds the lease, such as a job's number",
        )
    return str(value)


def seconds(what: str, value: Any) -> float:
    """A duration: a whole number of seconds, or one with a unit (``90s``, ``45m``, ``2h``, ``1d``).

    :raises InvalidInput: when it is anything else.
    """
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if not found:
        raise InvalidInput(
            f"{what}: {naming.shown(value)} is not a duration.",
            remedy="write it as 90s, 45m, 2h or 1d",
        )
    return float(int(found[1]) * UNITS[found[2] or "s"])
