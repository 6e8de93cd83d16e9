# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets of a yard, for users of the SDK."""

from __future__ import annotations

from dataclasses import replace

from ..model.fleet import FleetSpec
from ..model.fleet_info import FleetInfo
from ..model.host import Host
from ..model.host_info import HostInfo
from ..resources import guest_status
from ..resources.context import Context
from ..resources.fleets.converge_fleet import FleetConvergence, FleetDeletion
from ..resources.fleets.suspend_fleet import FleetResume, FleetSuspension
from ..resources.hosts import access, trust
from ..resources.operation import run
from ..resources.templates import freshness
from ..result import Result
from . import lookup
from .hosts import TIMEOUT, HostsClient, select


class FleetsClient:
    """The fleets of a yard: ``yard.fleets``."""

    def __init__(self, context: Context, hosts: HostsClient) -> None:
        self._context = context
        self._hosts = hosts

    def apply(
        self, spec: FleetSpec, *, check: bool = False, timeout: float = TIMEOUT, wait: bool = True
    ) -> Result[HostInfo]:
        """Converge a fleet to its declaration. The result's objects are the fleet's hosts.

        :param wait: whether to wait until Docker answers in all hosts, not only for their
            identities.
        """
        context = replace(self._context, wait=wait)
        plan = run(FleetConvergence(context, spec), check=check, timeout=timeout)
        return Result(plan, self._hosts.list(spec.tenant, spec.name))

    def list(
        self, tenant: str | None = None, name: str | None = None, *, check_updates: bool = False
    ) -> tuple[FleetInfo, ...]:
        """Return fleets, by tenant and name. A fleet is known by its hosts: a fleet without hosts
        is not returned.

        :param check_updates: whether to ask the mirrors for outdated packages of each host.
        """
        observation = self._context.provider.observe(self._context.owner)
        chosen = select(
            observation,
            lambda record: (
                bool(record.fleet)
                and tenant in (None, record.tenant)
                and name in (None, record.fleet)
            ),
        )
        drift, outdated = trust.drifts(self._context, observation.hosts), freshness.outdated(chosen)
        updates = freshness.updates_of_hosts(self._context, chosen) if check_updates else None
        members: dict[tuple[str, str], list[Host]] = {}
        for host in chosen.hosts:
            members.setdefault((host.record.tenant, host.record.fleet), []).append(host)
        clock_reasons = guest_status.skewed(
            chosen.hosts, guest_status.statuses(self._context, chosen.hosts)
        )
        return tuple(
            access.describe_fleet(members[key], drift, outdated, updates, clock_reasons)
            for key in sorted(members)
        )

    def get(self, name: str, tenant: str = "default") -> FleetInfo:
        """Return a fleet.

        :raises NotFound: if the fleet does not exist or has no hosts.
        """
        return lookup.last("fleet", name, self.list(tenant, name))

    def suspend(
        self,
        name: str,
        tenant: str = "default",
        *,
        force: bool = False,
        check: bool = False,
        timeout: float = TIMEOUT,
    ) -> Result[HostInfo]:
        """Suspend the running hosts of a fleet: their memory is saved, and they use no RAM and no
        CPU time. Leased hosts keep running.

        :param force: suspend leased hosts too.
        :raises OperationRefused: if a host has an encrypted volume.
        :raises OutOfSpace: if the storage lacks the space for their memory.
        """
        suspension = FleetSuspension(self._context, tenant, name, force)
        plan = run(suspension, check=check, timeout=timeout)
        return Result(plan, self._hosts.list(tenant, name))

    def resume(
        self,
        name: str,
        tenant: str = "default",
        *,
        check: bool = False,
        timeout: float = TIMEOUT,
        wait: bool = True,
    ) -> Result[HostInfo]:
        """Resume the suspended hosts of a fleet with their memory, and change nothing else.

        :param wait: whether to wait until Docker answers in the hosts.
        """
        resume = FleetResume(replace(self._context, wait=wait), tenant, name)
        return Result(run(resume, check=check, timeout=timeout), self._hosts.list(tenant, name))

    def delete(
        self,
        name: str,
        tenant: str = "default",
        *,
        check: bool = False,
        timeout: float = TIMEOUT,
    ) -> Result[HostInfo]:
        """Delete all hosts of a fleet. The result's objects are the remaining hosts."""
        plan = run(FleetDeletion(self._context, tenant, name), check=check, timeout=timeout)
        return Result(plan, self._hosts.list(tenant, name))
