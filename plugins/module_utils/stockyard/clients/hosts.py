# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of a yard, for users of the SDK."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..model.access_info import SshConfigInfo, ssh_path
from ..model.branch import BranchSpec
from ..model.fleet import SingleSpec
from ..model.host import HostRecord
from ..model.host_info import HostInfo
from ..model.observation import Observation
from ..resources import guest_status
from ..resources.context import Context
from ..resources.fleets.branch_host import HostBranching
from ..resources.fleets.single_host import SingleHostConvergence
from ..resources.hosts import access, trust
from ..resources.leases.child_leases import lease_child
from ..resources.operation import run
from ..resources.templates import freshness
from ..resources.volumes import encryption
from ..result import Result
from . import lookup

TIMEOUT = 600.0


class HostsClient:
    """The hosts of a yard: ``yard.hosts``."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def apply(
        self, spec: SingleSpec, *, check: bool = False, timeout: float = TIMEOUT, wait: bool = True
    ) -> Result[HostInfo]:
        """Converge a single host to its declaration.

        :param wait: whether to wait until Docker answers in the host, not only for its identity.
        :raises OperationRefused: if the host is a member of a fleet.
        """
        return self._converge(spec, "present", check, timeout, wait)

    def restart(
        self,
        host: str | SingleSpec,
        tenant: str = "default",
        *,
        check: bool = False,
        timeout: float = TIMEOUT,
        wait: bool = True,
    ) -> Result[HostInfo]:
        """Restart a host, also if it is a member of a fleet.

        :param host: its name, or a declaration from which to create it if it does not exist.
        :raises NotFound: if the host does not exist, and no template is declared.
        """
        return self._converge(_named(host, tenant), "restarted", check, timeout, wait)

    def replace(
        self,
        host: str | SingleSpec,
        tenant: str = "default",
        *,
        check: bool = False,
        timeout: float = TIMEOUT,
        wait: bool = True,
    ) -> Result[HostInfo]:
        """Delete a host and create another one under the same name, also if it is a member of a
        fleet.

        :param host: its name, or the declaration of the new host.
        :raises NotFound: if the host does not exist, and no template is declared.
        """
        return self._converge(_named(host, tenant), "replaced", check, timeout, wait)

    def suspend(
        self,
        name: str,
        tenant: str = "default",
        *,
        force: bool = False,
        check: bool = False,
        timeout: float = TIMEOUT,
    ) -> Result[HostInfo]:
        """Suspend a host, also if it is a member of a fleet: its memory is saved, and it uses no
        RAM and no CPU time. Its address, record and lease stay.

        :param force: suspend the host although it is leased. Its holder uses
            ``yard.leases.suspend``.
        :raises NotFound: if the host does not exist.
        :raises OperationRefused: if the host is leased or incomplete, or has an encrypted volume.
        :raises OutOfSpace: if the storage lacks the space for its memory.
        """
        return self._converge(
            _named(name, tenant), "suspended", check, timeout, wait=True, force=force
        )

    def resume(
        self,
        name: str,
        tenant: str = "default",
        *,
        check: bool = False,
        timeout: float = TIMEOUT,
        wait: bool = True,
    ) -> Result[HostInfo]:
        """Resume a suspended host with its memory, also if it is a member of a fleet. A host that
        is off is started.

        :param wait: whether to wait until Docker answers in the host.
        :raises NotFound: if the host does not exist.
        """
        return self._converge(_named(name, tenant), "resumed", check, timeout, wait)

    def delete(
        self, name: str, tenant: str = "default", *, check: bool = False, timeout: float = TIMEOUT
    ) -> Result[HostInfo]:
        """Delete a host, also if it is a member of a fleet."""
        return self._converge(_named(name, tenant), "absent", check, timeout, wait=True)

    def branch(
        self,
        spec: BranchSpec,
        *,
        check: bool = False,
        timeout: float = TIMEOUT,
        wait: bool = True,
    ) -> Result[HostInfo]:
        """Branch a running host: create hosts with its memory, disk and containers, each with its
        own identity. The host continues. Children that exist already stay as they are.

        The objects of the result are the children.

        :param wait: whether to wait until Docker answers in the children.
        :raises OperationRefused: if the host cannot be branched now, with the reason.
        :raises Unsupported: if the host cannot be branched at all, with the reason.
        """
        context = replace(self._context, wait=wait)
        plan = run(HostBranching(context, spec, lease_child), check=check, timeout=timeout)
        children = (host for host in self.list(spec.tenant) if host.name in spec.children)
        return Result(plan, tuple(children))

    def list(
        self,
        tenant: str | None = None,
        fleet: str | None = None,
        name: str | None = None,
        *,
        check_updates: bool = False,
    ) -> tuple[HostInfo, ...]:
        """Return hosts, by name.

        :param check_updates: whether to ask the mirrors for outdated packages of each host.
        """
        observation = self._context.provider.observe(self._context.owner)
        drift = trust.drifts(self._context, observation.hosts)
        chosen = select(
            observation,
            lambda record: (
                tenant in (None, record.tenant)
                and fleet in (None, record.fleet)
                and name in (None, record.name)
            ),
        )
        answers = guest_status.statuses(self._context, chosen.hosts)
        lock_reasons = encryption.locked(chosen.hosts, answers)
        clock_reasons = guest_status.skewed(chosen.hosts, answers)
        updates = freshness.updates_of_hosts(self._context, chosen) if check_updates else None
        return tuple(
            access.describe_host(
                self._context,
                host,
                drift[host.record.uuid],
                lock_reasons.get(host.record.name, ""),
                clock_reasons.get(host.record.uuid, ""),
                updates,
            )
            for host in chosen.hosts
        )

    def get(self, name: str, tenant: str = "default") -> HostInfo:
        """Return a host.

        :raises NotFound: if the host does not exist.
        """
        return lookup.last("host", name, self.list(tenant, name=name))

    def ssh_config(self, tenant: str = "default") -> SshConfigInfo:
        """Return the configuration of OpenSSH in which the tenant's hosts have their names, after
        it is written with the hosts that are on record now.
        """
        observation = self._context.provider.observe(self._context.owner)
        records = [host.record for host in observation.of_tenant(tenant)]
        path = access.name_hosts(self._context, tenant, records)
        entries = self._context.pki(tenant).ssh_config_of(self._context.provider.uri)
        # OpenSSH expands percent signs there only in its latest versions.
        included_path = ssh_path(str(path.absolute())).replace("%%", "%")
        return SshConfigInfo(
            path=str(path.absolute()),
            include=f"Match all\n    Include {included_path}\n",
            content=entries.read_text(encoding="utf-8"),
        )

    def _converge(
        self,
        spec: SingleSpec,
        state: str,
        check: bool,
        timeout: float,
        wait: bool,
        force: bool = False,
    ) -> Result[HostInfo]:
        context = replace(self._context, wait=wait)
        convergence = SingleHostConvergence(context, spec, state, force)
        plan = run(convergence, check=check, timeout=timeout)
        return Result(plan, self.list(spec.tenant, name=spec.name))


def select(observation: Observation, condition: Callable[[HostRecord], bool]) -> Observation:
    """Return the same observation with only the hosts that meet a condition, by name."""
    hosts = [host for host in observation.hosts if condition(host.record)]
    return replace(observation, hosts=tuple(sorted(hosts, key=lambda host: host.record.name)))


def _named(host: str | SingleSpec, tenant: str) -> SingleSpec:
    return SingleSpec(host, tenant=tenant) if isinstance(host, str) else host
