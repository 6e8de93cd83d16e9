# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A branch of a running host that is kept, so that hosts can be forked from it at any time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...clock import Deadline
from ...errors import NotFound
from ...model.branch import BranchRecord, BranchSpec
from ...model.host import Host, HostRecord, HostSpec
from ...model.observation import Observation
from ...model.size import Size, larger
from ...model.template import TemplateRecord
from ...planning import resize
from ..context import Context
from ..hosts import branches, host_lifecycle, trust
from ..hosts.reservation import HostRequest
from ..pools.pool_lifecycle import frozen, most
from .branch_host import template_of
from .convergence import LOCK_WAIT


@dataclass(frozen=True)
class HostGeneration:
    """The state of a host at one moment. Hosts can be forked from it by several threads.

    :param parent: the host, as it was then.
    :param template: the template of the host.
    """

    ctx: Context
    parent: HostRecord
    template: TemplateRecord
    branch: BranchRecord

    def create_host(
        self,
        name: str,
        labels: dict[str, str],
        ports: tuple[int, ...],
        bind: str,
        required: Size,
        deadline: Deadline,
    ) -> HostRecord:
        """Create a host from the generation, and wait until Docker answers in it.

        :param ports: the ports that the hypervisor publishes.
        :param bind: the address of the hypervisor that they are published on.
        :param required: the vCPUs and the memory that the host must have. It has those of the
            parent at least.
        :raises Conflict: if the name or a port is taken.
        :raises Unsupported: if no fork of the template can have the required size.
        :raises PoolQuotaExceeded: if the pool has insufficient quota.
        """
        ctx, parent = self.ctx, self.parent
        spec = replace(
            parent.spec,
            ports=ports,
            bind=bind if ports else "",
            publish=None,
            fork_mode="instant",
            volumes=(),
        )
        spec = self._sized(spec, required, f"host {name}")
        origin = host_lifecycle.Origin(self.branch, parent, "keep", "none", lambda record: record)
        request = HostRequest(parent.tenant, "", name, spec, labels)
        lock = ctx.lock_name("host", parent.tenant, name)
        with ctx.provider.exclusive(lock, deadline.within(LOCK_WAIT)):
            return host_lifecycle.create_child(ctx, request, self.template, origin, deadline)

    def _sized(self, spec: HostSpec, required: Size, title: str) -> HostSpec:
        minimum, maximum = frozen(self.template), most(self.ctx, self.template)
        size = resize.fitting_size(
            larger(required, resize.desired_size(spec, minimum)), minimum, maximum
        )
        if (size.vcpus, size.memory_mib) == (minimum.vcpus, minimum.memory_mib):
            return spec
        sized = replace(spec, vcpus=size.vcpus, memory_mib=size.memory_mib)
        resize.check(sized, minimum, maximum, title)
        return sized

    def release(self) -> None:
        """Release the branch. Its hosts stay."""
        self.ctx.provider.branches.release(self.branch)


def freeze_generation(ctx: Context, tenant: str, name: str, deadline: Deadline) -> HostGeneration:
    """Freeze the present state of a running host, which continues.

    :raises NotFound: if the host does not exist.
    :raises StockyardError: if the host cannot be branched, with the reason.
    """
    lock = ctx.host_lock(_find(ctx, tenant, name)[1].record)
    with ctx.provider.exclusive(lock, deadline.within(LOCK_WAIT)):
        observation, parent = _find(ctx, tenant, name)
        template = template_of(observation, parent).record
        volumes = observation.volumes.held_by(parent.record.uuid)
        # The declaration of an image host allows the copies explicitly.
        spec = BranchSpec(name, tenant=tenant, volumes="none", allow_hostile=True)
        branches.check(ctx, parent, spec, template.profile, volumes)
        trust.prepare(ctx, tenant, observation.hosts)
        ctx.provider.branches.prune(ctx.owner)
        branch = branches.freeze(ctx, parent.record, template, volumes, deadline)
    return HostGeneration(ctx, parent.record, template, branch)


def _find(ctx: Context, tenant: str, name: str) -> tuple[Observation, Host]:
    observation = ctx.provider.observe(ctx.owner)
    host = observation.host(tenant, name)
    if host is None:
        raise NotFound("the host does not exist.", name=f"host {name}")
    return observation, host
