# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases of a yard, for users of the SDK."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import NotFound, StockyardError
from ..model.fleet import SingleSpec
from ..model.host import HostRecord
from ..model.host_info import HostInfo
from ..model.lease import LeaseSpec, seconds
from ..model.lease_info import LeaseInfo
from ..planning.plan import Plan
from ..resources.context import Context
from ..resources.fleets.single_host import SingleHostConvergence
from ..resources.leases import keep_host, lease_info, lease_lifecycle
from ..resources.leases.lease_lifecycle import (
    HolderLease,
    LeaseExtension,
    LeaseRelease,
    LeaseResult,
)
from ..resources.operation import Operation, run
from ..result import Result
from . import lookup
from .hosts import HostsClient
from .work_tree import WorkTree, check_directory

RELEASE_TIMEOUT = 600.0


class HeldLease:
    """A lease that this program holds. At the end of a ``with`` block it is released, and its host
    is deleted.

    :param info: the lease as it is known; a renewal updates it.
    """

    def __init__(
        self, leases: LeasesClient, info: LeaseInfo, duration: float, replace: bool
    ) -> None:
        self._leases = leases
        self._duration = duration
        self._replace = replace
        self.info = info
        self._kept = False

    @property
    def id(self) -> str:
        """Return the number of the lease, which renews or releases it."""
        return self.info.id

    @property
    def host(self) -> str:
        """Return the name of the host."""
        return self.info.host

    @property
    def until(self) -> float:
        """Return the end of the lease, in seconds since the epoch."""
        return self.info.until

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables that a Docker client needs."""
        return dict(self.info.docker.environment)

    def __enter__(self) -> HeldLease:
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()

    def renew(self, duration: float | str | None = None) -> None:
        """Renew the lease from now on for its first duration, or for the given one.

        :raises LeaseExpired: if the lease has expired. The program must not rely on the host after
            that.
        """
        self.info = self._leases.renew(
            self.id, self._duration if duration is None else duration
        ).object

    def suspend(self) -> None:
        """Suspend the host: it uses no RAM and no CPU time. The lease continues to its end."""
        self._leases.suspend(self.id)

    def resume(self) -> None:
        """Resume the suspended host with its memory."""
        self._leases.resume(self.id)

    def keep(self, duration: float | str) -> HostInfo:
        """Keep the host for a time, suspended under a separate name, and return it. The job's host
        is released as usual; if it cannot be branched, it is itself the kept host.

        :param duration: seconds, or as ``2h``. Then the kept host is deleted.
        :raises LeaseExpired: if the lease has expired.
        :raises OperationRefused: if an earlier state of the host is kept already.
        """
        host, separate = self._leases.keep(self.id, duration)
        self._kept = not separate
        return host

    def work_tree(self, directory: str | Path) -> WorkTree:
        """Return the copy of a directory on the host, to send it, run commands in it over SSH, and
        fetch files. SSH needs the operator's key: it is no part of a lease.

        :param directory: a directory of this machine.
        :raises InvalidInput: if the directory cannot be read.
        """
        host = HostsClient(self._leases.context).get(self.host, self.info.tenant)
        return WorkTree(host.ssh, f"host {self.host}", check_directory(directory))

    def release(self) -> None:
        """Release the lease if it has not expired, and its host is not kept. A host that cannot be
        replaced is deleted nevertheless.
        """
        if self._kept:
            return
        if self._replace:
            try:
                self._leases.release(self.id, replace=True)
                return
            except StockyardError as error:
                self._leases.context.progress(f"host {self.host}: not replaced: {error}")
        self._leases.release(self.id)


class LeasesClient:
    """The leases of a yard: ``yard.leases``."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def acquire(
        self,
        fleet: str = "",
        *,
        holder: str,
        duration: float | str = 3600.0,
        labels: Mapping[str, str] | None = None,
        tenant: str = "default",
        pool: str = "",
        wait: float | str = 0.0,
        replace: bool = False,
    ) -> HeldLease:
        """Lease a ready host. Every call leases another host.

        :param fleet: the fleet of the host; any fleet with these labels if empty.
        :param duration: how long, in seconds, or as ``45m``.
        :param pool: the pool of the host; any pool if empty.
        :param wait: the longest time to wait for a host, in seconds, or as ``10m``. If no host is
            free, one is created within the largest size of the fleet and the quota of its pool.
            Earlier requests come first.
        :param replace: create another host immediately when this one is released.
        :raises Busy: if no host is free.
        """
        spec = LeaseSpec(holder, fleet, tenant, dict(labels or {}), _seconds(duration), pool)
        record = lease_lifecycle.acquire(self._context, spec, _seconds(wait, "wait"))
        return HeldLease(self, self._describe(record), spec.duration, replace)

    def ensure(
        self, spec: LeaseSpec, *, renew: bool = False, check: bool = False, wait: float = 0.0
    ) -> Result[LeaseInfo]:
        """Return the present lease of a holder, or lease a host if the holder has none.

        :param renew: whether to renew the present lease from now on.
        :param wait: seconds to wait for a host, see :meth:`acquire`.
        :raises Busy: if no host is free.
        """
        return self._run(HolderLease(self._context, spec, renew), check, wait)

    def renew(self, lease: str, duration: float | str, *, check: bool = False) -> Result[LeaseInfo]:
        """Renew a lease from now on for a duration.

        :param lease: the number of the lease.
        :raises LeaseExpired: if the lease has expired.
        """
        extension = LeaseExtension(self._context, lease, _seconds(duration))
        return self._run(extension, check, RELEASE_TIMEOUT)

    def suspend(
        self, lease: str, *, check: bool = False, timeout: float = RELEASE_TIMEOUT
    ) -> Result[LeaseInfo]:
        """Suspend the host of a lease, as its holder. The lease continues: when it expires, the
        host is deleted.

        :param lease: the number of the lease.
        :raises LeaseExpired: if the lease has expired.
        :raises OperationRefused: if the host has an encrypted volume.
        """
        return self._change_power(lease, "suspended", check, timeout)

    def resume(
        self, lease: str, *, check: bool = False, timeout: float = RELEASE_TIMEOUT
    ) -> Result[LeaseInfo]:
        """Resume the suspended host of a lease with its memory.

        :param lease: the number of the lease.
        :raises LeaseExpired: if the lease has expired.
        """
        return self._change_power(lease, "resumed", check, timeout)

    def keep(
        self, lease: str, duration: float | str, *, timeout: float = RELEASE_TIMEOUT
    ) -> tuple[HostInfo, bool]:
        """Keep the host of a lease for a time, suspended, and return the kept host: a branch of the
        host with another name, or the host itself if it cannot be branched. A host with an
        encrypted volume is shut down.

        :param lease: the number of the lease.
        :param duration: seconds, or as ``2h``. Then the kept host is deleted.
        :return: the kept host, and whether it is another host than that of the lease.
        :raises LeaseExpired: if the lease has expired.
        """
        ctx = self._context
        kept_host = keep_host.keep(ctx, lease, _seconds(duration), ctx.deadline(timeout))
        record = kept_host.record
        return HostsClient(ctx).get(record.name, record.tenant), kept_host.separate

    def release(
        self,
        lease: str,
        *,
        replace: bool = False,
        check: bool = False,
        timeout: float = RELEASE_TIMEOUT,
    ) -> Result[LeaseInfo]:
        """Release a lease: its host is deleted. A lease that has expired changes nothing.

        :param lease: the number of the lease.
        :param replace: create another host in its place immediately.
        :raises NotFound: if no lease of this yard ever had this number.
        """
        release = LeaseRelease(self._context, lease, replace)
        plan = run(release, check=check, timeout=timeout)
        return Result(plan, self._numbered(lease))

    def release_held(
        self,
        spec: LeaseSpec,
        *,
        replace: bool = False,
        check: bool = False,
        timeout: float = RELEASE_TIMEOUT,
    ) -> Result[LeaseInfo]:
        """Release the lease that a holder got for this request, if the holder still has it."""
        observation = self._context.provider.observe(self._context.owner)
        record = lease_lifecycle.held_by(self._context, spec, observation)
        if record is None or record.lease is None:
            return Result(Plan())
        return self.release(record.lease.id, replace=replace, check=check, timeout=timeout)

    def list(
        self, tenant: str | None = None, fleet: str | None = None, holder: str | None = None
    ) -> tuple[LeaseInfo, ...]:
        """Return leases, by holder, including expired leases whose hosts still exist."""
        return lease_info.leases(self._context, tenant, fleet, holder)

    def get(self, lease: str) -> LeaseInfo:
        """Return a lease by its number.

        :raises NotFound: if no host of this yard has a lease with this number.
        """
        return lookup.last("lease", lease, self._numbered(lease))

    @property
    def context(self) -> Context:
        """Return the context of the yard."""
        return self._context

    def _change_power(
        self, lease: str, state: str, check: bool, timeout: float
    ) -> Result[LeaseInfo]:
        observation = self._context.provider.observe(self._context.owner)
        record = lease_lifecycle.current_record(self._context, lease, observation)[0]
        spec = SingleSpec(record.name, tenant=record.tenant)
        change = SingleHostConvergence(self._context, spec, state, force=True)
        return Result(run(change, check=check, timeout=timeout), self._numbered(lease))

    def _run(
        self, operation: Operation[LeaseResult], check: bool, timeout: float
    ) -> Result[LeaseInfo]:
        result = run(operation, check=check, timeout=timeout)
        return Result(result.plan, (self._describe(result.record),) if result.record else ())

    def _describe(self, record: HostRecord) -> LeaseInfo:
        """Return the lease of a host that was leased just now."""
        if record.lease is None:
            raise NotFound("the host is not leased.", name=record.title)
        return lease_info.describe_lease(self._context, record, record.lease)

    def _numbered(self, lease: str) -> tuple[LeaseInfo, ...]:
        return tuple(info for info in self.list() if info.id == lease)


def _seconds(duration: float | str, name: str = "duration") -> float:
    return seconds(name, duration) if isinstance(duration, str) else float(duration)
