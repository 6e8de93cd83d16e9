# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases: the right of a holder to one host until a time, and durations."""

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
    """A lease, as it is stored in the record of its host.

    The number of a lease is enough to renew or release it. It does not open the host: the host's
    key is separate.

    :param id: the ID of the lease; see :func:`lease_id`.
    :param holder: the holder of the lease.
    :param taken: the time at which the lease began, in seconds since the epoch.
    :param until: the time at which the lease ends, in seconds since the epoch. From then on it
        cannot be renewed, and the host is deleted.
    :param certificate: the serial number of the client certificate of the lease, in hexadecimal
        digits.
    """

    id: str
    holder: str
    taken: float  # words: a field of records and results
    until: float
    certificate: str

    def __post_init__(self) -> None:
        naming.identifier(self.id)
        holder_name(self.holder)
        naming.moment("taken", self.taken)
        naming.moment("until", self.until)
        naming.serial("certificate", self.certificate)

    def ended(self, current_time: float) -> bool:
        """Return whether the lease has expired."""
        return current_time >= self.until


@dataclass(frozen=True)
class LeaseSpec:
    """A requested lease.

    :param fleet: the fleet of the host; any fleet if empty.
    :param labels: the labels that the host must have, at least.
    :param duration: how long, in seconds.
    :param pool: the pool of the host; any pool if empty.
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
                "the request selects no hosts.", remedy="declare a fleet, labels or a pool"
            )
        check_duration(self.duration)

    @property
    def title(self) -> str:
        """Return the request, in messages."""
        labels = ", ".join(f"{key}={value}" for key, value in sorted(self.labels.items()))
        targets = [
            f"{kind} {name}" for kind, name in (("fleet", self.fleet), ("pool", self.pool)) if name
        ]
        return " with ".join(part for part in (" in ".join(targets), labels) if part)


def lease_id(random_uuid: UUID, yard: str) -> str:
    """Return the number of a new lease: a random uuid whose last part is a check value of its other
    parts and of the yard.

    The record of a lease is deleted with its host. The check value distinguishes an expired lease
    from a number that the yard never issued, on every controller and without any stored data.

    :param random_uuid: a random uuid.
    """
    head = random_uuid.bytes[:-CHECKED]
    return str(UUID(bytes=head + hashlib.sha256(head + yard.encode()).digest()[:CHECKED]))


def is_issued(lease: str, yard: str) -> bool:
    """Return whether a yard issued this number to a lease."""
    try:
        return lease_id(UUID(lease), yard) == lease
    except ValueError:
        return False


def check_duration(duration: float) -> None:
    """Check the duration of a lease, in seconds."""
    if not 1 <= duration <= LONGEST:
        raise InvalidInput(
            f"duration: {duration:g} s is not between 1 s and 30 days.",
            remedy="write a duration such as 45m",
        )


def holder_name(value: Any) -> str:
    """Check the name of a holder: a line of text, not empty."""
    if not naming.line("holder", value, HOLDER_MAX).strip():
        raise InvalidInput(
            "holder is empty.",
            remedy="set the holder of the lease, such as a job's number",
        )
    return str(value)


def seconds(subject: str, value: Any) -> float:
    """Return a duration in seconds: a whole number of seconds, or a number with a unit (``90s``,
    ``45m``, ``2h``, ``1d``).

    :raises InvalidInput: if the value is anything else.
    """
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise InvalidInput(
            f"{subject}: {naming.shown(value)} is not a duration.",
            remedy="write a duration such as 90s, 45m, 2h or 1d",
        )
    return float(int(match[1]) * UNITS[match[2] or "s"])
