# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates from hosts: a running host is branched, and the branch becomes a template.

The branch runs once, without a network, to delete the identity of the host and the traces of its
users. This is an explicit act: a template that exists does not follow its host.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ...clock import Deadline
from ...errors import NotFound, OperationRefused, Unsupported
from ...guest.client import Guest
from ...guest.recipe import RenderedTemplate
from ...model import codec
from ...model.branch import BranchRecord, BranchSpec
from ...model.host import Host, HostRecord
from ...model.network import GuestNetwork
from ...model.observation import Observation
from ...model.template import TemplateRecord, TemplateSpec
from ...model.volume import DOCKER_ROOT
from ...planning import derivation
from ..context import Context
from ..hosts import branches, identity
from ..hosts.reservation import mac_of

# Seconds to wait for another controller that works on the host.
LOCK_WAIT = 30.0


def bind(declared: RenderedTemplate) -> RenderedTemplate:
    """Return a template that is created from a host, with its digest."""
    digest = derivation.host_digest(declared.spec)
    return replace(declared, digest=digest, options=digest)


def check(ctx: Context, spec: TemplateSpec, observation: Observation) -> Host:
    """Return the host that a template will be created from.

    :raises NotFound: if the host or its template does not exist.
    :raises StockyardError: if no template can be created from it, with the reason.
    """
    title = f"template {spec.name}"
    if not ctx.provider.capabilities.freezes_hosts:
        raise Unsupported(
            "templates cannot be created from hosts on this hypervisor.",
            name=title,
            remedy="omit from_host, and declare the content of the template",
        )
    host = observation.host(spec.tenant, spec.from_host)
    if host is None:
        raise NotFound(
            f"host {spec.from_host}, which it is created from, does not exist.",
            name=title,
            remedy="create and prepare the host first, in the same tenant",
        )
    record = host.record
    if record.lease is not None:
        raise OperationRefused(
            f"it is leased by {record.lease.holder}, whose data would be in each host of the "
            "template.",
            name=record.title,
            remedy="release the lease, or name another host",
        )
    if record.encrypted:
        raise Unsupported(
            "a host with encrypted data cannot become a template.",
            name=record.title,
            cause="Docker runs in it, and data of new hosts must be on encrypted volumes",
            remedy="name a host of another template",
        )
    if record.size != record.template_size:
        raise Unsupported(
            "a host that was resized cannot become a template.",
            name=record.title,
            cause="hosts of a template start with the size of its machine",
            remedy="resize the host to the size of its template, and restart it",
        )
    template = _template(observation, record)
    if template.profile == "hostile":
        raise OperationRefused(
            "a host with the profile hostile cannot become a template.",
            name=record.title,
            cause="each host of the template would run all programs that run there",
            remedy="derive a template from the template of the host, or name another host",
        )
    volumes = observation.volumes.held_by(record.uuid)
    if any(volume.attachment and volume.attachment.path == DOCKER_ROOT for volume in volumes):
        raise Unsupported(
            "a host with Docker's data on a volume cannot become a template.",
            name=record.title,
            cause=f"volumes are no part of a template, and a volume is at {DOCKER_ROOT}",
            remedy="name a host whose Docker data is on its own disk",
        )
    request = BranchSpec(record.name, tenant=record.tenant, volumes="none")
    branches.check(ctx, host, request, template.profile, volumes)
    with ctx.guest(record, ctx.deadline(LOCK_WAIT)) as guest:
        guest.require("templates from hosts")
    ctx.provider.branches.check_template(record)
    return host


def _template(observation: Observation, record: HostRecord) -> TemplateRecord:
    for template in observation.generations(record.tenant, record.template):
        if template.record.generation == record.generation:
            return template.record
    raise NotFound(
        "the template of the host does not exist.",
        name=record.title,
        remedy="replace the host, and run again",
    )


@dataclass(frozen=True)
class Origin:
    """The origin of a template.

    :param branch: the branch of the host.
    :param template: the template of the host.
    """

    branch: BranchRecord
    template: TemplateRecord


@contextmanager
def branched_host(ctx: Context, spec: TemplateSpec, deadline: Deadline) -> Iterator[Origin]:
    """Branch the host of a template, which continues. The branch exists until the end of the block.

    :raises StockyardError: if no template can be created from the host, with the reason.
    """
    record = check(ctx, spec, ctx.provider.observe(ctx.owner)).record
    with ctx.provider.exclusive(ctx.host_lock(record), deadline.within(LOCK_WAIT)):
        observation = ctx.provider.observe(ctx.owner)
        record = check(ctx, spec, observation).record
        template = _template(observation, record)
        # A branch whose controller died is deleted before another one needs its space.
        ctx.provider.branches.prune(ctx.owner)
        volumes = observation.volumes.held_by(record.uuid)
        branch = branches.freeze(ctx, record, template, volumes, deadline)
    try:
        yield Origin(branch, template)
    finally:
        ctx.provider.branches.release(branch)


def draft(
    ctx: Context, declared: RenderedTemplate, origin: Origin, promotion_time: float
) -> TemplateRecord:
    """Return the record of a new generation that is created from a host.

    :param promotion_time: the time from which it is current.
    """
    spec, template_uuid = declared.spec, uuid.uuid4()
    return replace(
        origin.template,
        name=spec.name,
        uuid=str(template_uuid),
        generation=codec.digest({"recipe": declared.digest, "branch": origin.branch.uuid}),
        recipe=declared.digest,
        # Docker runs in the host, whatever it was when the host was forked.
        docker="running",
        phase="booting",
        created=ctx.clock.now(),
        mac=mac_of(template_uuid, ctx.provider.capabilities),
        version=1,
        checksums=None,
        platform=None,
        promoted=promotion_time if promotion_time > ctx.clock.now() else 0.0,
        provision="",
        options=declared.options,
        derivation=None,
        from_host=spec.from_host,
    )


def scrub(
    ctx: Context, record: TemplateRecord, branch: BranchRecord, guest: Guest, network: GuestNetwork
) -> None:
    """Delete the identity of the host, and the traces of its users, in a running template.

    :param network: the network of templates.
    """
    guest.set_clock(ctx.clock.now())
    if branch.volumes:
        branches.drop_volumes(ctx, record, branch, guest)
    identity.scrub(record, guest, network)
    guest.overwrite_requests()
    guest.settle(restart_agent=True)
