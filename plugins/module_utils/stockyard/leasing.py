# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The leases of a yard, as users of the SDK take them."""

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
    """A lease that this program has. At the end of a ``with`` block it is given back, and its host
    is destroyed.

    :param facts: as :meth:`Leasing.leases` lists it.
    """

    def __init__(self, yard: Leasing, facts: dict[str, Any], duration: float, again: bool) -> None:
        self._yard = yard
        self._duration = duration
        self._again = again
        self.facts = facts

    @property
    def id(self) -> str:
        """Its number: what asks for more time, or gives it back."""
        return str(self.facts["id"])

    @property
    def host(self) -> str:
        """The name of the host."""
        return str(self.facts["host"])

    @property
    def until(self) -> float:
        """When it ends, in seconds since the epoch."""
        return float(self.facts["until"])

    @property
    def environment(self) -> dict[str, str]:
        """What a Docker client wants in its environment."""
        return dict(self.facts["docker"]["environment"])

    def __enter__(self) -> HeldLease:
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()

    def renew(self, duration: float | str | None = None) -> None:
        """Let it last from now on as long as at first, or as is said.

        :raises LeaseExpired: when it ended. Nothing of the host may be relied on from then on.
        """
        wanted = self._duration if duration is None else _seconds(duration)
        self.facts = self._yard.renew_lease(self.id, wanted).objects[0]

    def release(self) -> None:
        """Give it back, if it has not ended."""
        self._yard.release_lease(self.id, replace=self._again)


class Leasing:
    """The part of a yard that is about leases."""

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
        """Take a ready host. Every call takes another one.

        :param fleet: the fleet that it is to be of; any with these labels when empty.
        :param duration: how long, in seconds, or as ``45m``.
        :param pool: the pool that it is to be in; any when empty.
        :param wait: seconds to wait for one that is free.
        :param replace: make another host at once when this one is given back.
        :raises Busy: when none is free.
        """
        spec = LeaseSpec(holder, fleet, tenant, dict(labels or {}), _seconds(duration), pool)
        record = lease_lifecycle.take(self.context, spec, wait)
        return HeldLease(
            self, lease_info.describe_lease(self.context, record), spec.duration, replace
        )

    def have_lease(
        self, spec: LeaseSpec, *, extend: bool = False, check: bool = False, wait: float = 0.0
    ) -> Result:
        """Have a lease for a holder: the one that he has, or else a new one."""
        if check:
            return Result(
                lease_lifecycle.plan(self.context, spec, extend),
                self.leases(spec.tenant, spec.fleet or None, spec.holder),
            )
        plan, record = lease_lifecycle.ensure(self.context, spec, extend, wait)
        return Result(plan, [lease_info.describe_lease(self.context, record)])

    def renew_lease(self, lease: str, duration: float | str, *, check: bool = False) -> Result:
        """Let a lease last from now on as long as is said.

        :raises LeaseExpired: when it ended.
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
        """Release a lease: its host is deleted. A lease that has ended changes nothing.

        :param replace: make another host in its place at once.
        :raises NotFound: if no lease of this yard ever had this number.
        """
        plan = (
            lease_lifecycle.plan_release(self.context, lease, replace)
            if check
            else lease_lifecycle.release(self.context, lease, replace, timeout)
        )
        return Result(plan, [found for found in self.leases() if found["id"] == lease])

    def release_held(
        self,
        spec: LeaseSpec,
        *,
        replace: bool = False,
        check: bool = False,
        timeout: float = RELEASE_TIMEOUT,
    ) -> Result:
        """Give back the lease that a holder has of what he once asked for, if he has one."""
        held = lease_lifecycle.held_by(self.context, spec)
        if held is None or held.lease is None:
            return Result(Plan(), [])
        return self.release_lease(held.lease.id, replace=replace, check=check, timeout=timeout)

    def leases(
        self, tenant: str | None = None, fleet: str | None = None, holder: str | None = None
    ) -> list[dict[str, Any]]:
        """Leases as modules return them, those that ended and whose hosts are still there too."""
        found = lease_info.leases(self.context, tenant, fleet, holder)
        return [lease_info.describe_lease(self.context, record) for record in found]


def _seconds(duration: float | str) -> float:
    return seconds("duration", duration) if isinstance(duration, str) else float(duration)
