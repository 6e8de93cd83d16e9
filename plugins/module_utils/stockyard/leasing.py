# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The leases of a yard, for users of the SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .model.lease import LeaseSpec, seconds
from .planning.plan import Plan
from .resources.context import Context
from .resources.leases import lease_info, lease_lifecycle
from .result import Result

RELEASE_TIMEOUT = 600.0


class HeldLease:
    """A lease that this program holds. At the end of a ``with`` block it is released, and its host
    is deleted.

    :param facts: as :meth:`Leasing.leases` lists it.
    """

    def __init__(
        self, yard: Leasing, facts: dict[str, Any], duration: float, replace: bool
    ) -> None:
        self._yard = yard
        self._duration = duration
        self._again = replace
        self.facts = facts

    @property
    def id(self) -> str:
        """Return the number of the lease, which renews or releases it."""
        return str(self.facts["id"])

    @property
    def host(self) -> str:
        """Return the name of the host."""
        return str(self.facts["host"])

    @property
    def until(self) -> float:
        """Return the end of the lease, in seconds since the epoch."""
        return float(self.facts["until"])

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables that a Docker client needs."""
        return dict(self.facts["docker"]["environment"])

    def __enter__(self) -> HeldLease:
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()

    def renew(self, duration: float | str | None = None) -> None:
        """Renew the lease from now on for its first duration, or for the given one.

        :raises LeaseExpired: if the lease has expired. The program must not rely on the host after
            that.
        """
        new_duration = self._duration if duration is None else _seconds(duration)
        self.facts = self._yard.renew_lease(self.id, new_duration).objects[0]

    def release(self) -> None:
        """Release the lease if it has not expired."""
        self._yard.release_lease(self.id, replace=self._again)


class Leasing:
    """The part of a yard that manages leases."""

    context: Context

    def lease(
        self,
        fleet: str = "",
        *,
        holder: str,
        duration: float | str = 3600.0,
        labels: Mapping[str, str] | None = None,
        tenant: str = "default",
        pool: str = "",
        wait: float = 0.0,
        replace: bool = False,
    ) -> HeldLease:
        """Lease a ready host. Every call leases another host.

        :param fleet: the fleet of the host; any fleet with these labels if empty.
        :param duration: how long, in seconds, or as ``45m``.
        :param pool: the pool of the host; any pool if empty.
        :param wait: seconds to wait for a free host.
        :param replace: create another host immediately when this one is released.
        :raises Busy: if no host is free.
        """
        spec = LeaseSpec(holder, fleet, tenant, dict(labels or {}), _seconds(duration), pool)
        record = lease_lifecycle.take(self.context, spec, wait)
        return HeldLease(
            self, lease_info.describe_lease(self.context, record), spec.duration, replace
        )

    def have_lease(
        self, spec: LeaseSpec, *, extend: bool = False, check: bool = False, wait: float = 0.0
    ) -> Result:
        """Return the present lease of a holder, or lease a host if the holder has none."""
        if check:
            return Result(
                lease_lifecycle.plan(self.context, spec, extend),
                self.leases(spec.tenant, spec.fleet or None, spec.holder),
            )
        plan, record = lease_lifecycle.ensure(self.context, spec, extend, wait)
        return Result(plan, [lease_info.describe_lease(self.context, record)])

    def renew_lease(self, lease: str, duration: float | str, *, check: bool = False) -> Result:
        """Renew a lease from now on for a duration.

        :raises LeaseExpired: if the lease has expired.
        """
        act = lease_lifecycle.plan_extension if check else lease_lifecycle.extend
        plan, record = act(self.context, lease, _seconds(duration))
        return Result(plan, [lease_info.describe_lease(self.context, record)])

    def release_lease(
        self,
        lease: str,
        *,
        replace: bool = False,
        check: bool = False,
        timeout: float = RELEASE_TIMEOUT,
    ) -> Result:
        """Release a lease: its host is deleted. A lease that has expired changes nothing.

        :param replace: create another host in its place immediately.
        :raises NotFound: if no lease of this yard ever had this number.
        """
        plan = (
            lease_lifecycle.plan_release(self.context, lease, replace)
            if check
            else lease_lifecycle.release(self.context, lease, replace, timeout)
        )
        return Result(plan, [facts for facts in self.leases() if facts["id"] == lease])

    def release_held(
        self,
        spec: LeaseSpec,
        *,
        replace: bool = False,
        check: bool = False,
        timeout: float = RELEASE_TIMEOUT,
    ) -> Result:
        """Release the lease that a holder got for this request, if the holder still has it."""
        record = lease_lifecycle.held_by(self.context, spec)
        if record is None or record.lease is None:
            return Result(Plan(), [])
        return self.release_lease(record.lease.id, replace=replace, check=check, timeout=timeout)

    def leases(
        self, tenant: str | None = None, fleet: str | None = None, holder: str | None = None
    ) -> list[dict[str, Any]]:
        """Return leases as modules return them, including expired leases whose hosts still
        exist.
        """
        records = lease_info.leases(self.context, tenant, fleet, holder)
        return [lease_info.describe_lease(self.context, record) for record in records]


def _seconds(duration: float | str) -> float:
    return seconds("duration", duration) if isinstance(duration, str) else float(duration)
