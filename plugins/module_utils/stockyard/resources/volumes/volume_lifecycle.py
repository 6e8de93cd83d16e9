# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: created, resized, copied, attached and detached on request, and deleted only on
request.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

from ...clock import Deadline
from ...errors import Conflict, NotFound, OperationRefused, StockyardError, Unsupported
from ...model.host import HostRecord
from ...model.observation import Observation, VolumeObservation
from ...model.volume import (
    BLANK,
    DOCKER_ROOT,
    EXT4,
    Attachment,
    VolumeRecord,
    VolumeSpec,
    mount_point,
)
from ...model.volume_info import VolumeInfo
from ...planning.plan import Action, Plan
from ...planning.volumes import plan_removal, plan_volume, refuse_if_held, size_of
from ..context import Context
from ..operation import LockedOperation
from . import attachment, encryption

LOCK_WAIT = 30.0


def observe(ctx: Context, source: str) -> tuple[VolumeObservation, Collection[str] | None]:
    """Return all volumes, and for a copy the uuids of all hosts: a host may write to its source."""
    if not source:
        return ctx.provider.volumes.observe(ctx.owner), None
    observation = ctx.provider.observe(ctx.owner)
    return observation.volumes, observation.host_uuids


def planned(
    ctx: Context,
    spec: VolumeSpec,
    volumes: VolumeObservation,
    host_uuids: Collection[str] | None,
) -> Plan:
    """Return the plan of a volume. Changes nothing.

    :param host_uuids: uuids of the existing hosts; ``None`` if unknown.
    :raises Unsupported: if the hypervisor has no volumes.
    :raises NotFound: if the source of the volume does not exist.
    """
    check_supported(ctx, spec.name)
    todo = plan_volume(spec, volumes)
    if any(action.verb == "create" for action in todo.actions) and spec.source:
        _source(spec, volumes, host_uuids)
    return todo


def check_supported(ctx: Context, name: str) -> None:
    """Refuse a volume on a hypervisor without volumes."""
    if not ctx.provider.capabilities.volumes:
        raise Unsupported(
            "this hypervisor does not support volumes.",
            name=f"volume {name}",
            remedy="omit volumes",
        )


@dataclass(frozen=True)
class VolumeConvergence:
    """The convergence of a volume to its declaration.

    :param labels: the labels of a volume that is created.
    """

    ctx: Context
    spec: VolumeSpec
    labels: Mapping[str, str] = field(default_factory=dict)

    def plan(self) -> Plan:
        """Return the actions that :meth:`apply` would take now. Changes nothing."""
        check_supported(self.ctx, self.spec.name)
        return planned(self.ctx, self.spec, *observe(self.ctx, self.spec.source))

    def apply(self, deadline: Deadline) -> Plan:
        """Create the volume, or enlarge it; return the actions that were taken."""
        ctx, spec = self.ctx, self.spec
        check_supported(ctx, spec.name)
        with exclusive(ctx, spec.tenant, spec.name, deadline):
            observed = observe(ctx, spec.source)
            return converge(ctx, spec, *observed, deadline, self.labels)[0]


def converge(
    ctx: Context,
    spec: VolumeSpec,
    volumes: VolumeObservation,
    host_uuids: Collection[str] | None,
    deadline: Deadline,
    labels: Mapping[str, str] | None = None,
) -> tuple[Plan, VolumeRecord]:
    """Create or grow a volume as declared. Returns the actions that were taken, and the record of
    the volume. Call it under the volume's lock, with volumes that were observed under the lock.

    :param labels: the labels of a volume that is created.
    """
    todo = planned(ctx, spec, volumes, host_uuids)
    if any(action.verb == "create" for action in todo.actions):
        return todo, _create(ctx, spec, volumes, host_uuids, deadline, labels or {})
    volume = attachment.need_in(volumes, spec.tenant, spec.name)
    return todo, _grow(ctx, volume, spec.size_gib or 0, deadline) if todo else volume


@dataclass(frozen=True)
class VolumeDeletion(LockedOperation):
    """The deletion of a volume and all its data; copies of the volume stay complete."""

    tenant: str
    name: str
    LOCK_WAIT = LOCK_WAIT

    @property
    def lock(self) -> str:
        """Return the lock of the volume."""
        return self.ctx.lock_name("volume", self.tenant, self.name)

    def plan_from(self, observation: Observation) -> Plan:
        """Return the plan for an observation.

        :raises OperationRefused: if a host holds the volume.
        """
        volume = observation.volumes.find(self.tenant, self.name)
        return plan_removal(volume, observation.host_uuids)

    def carry_out(self, todo: Plan, observation: Observation, _deadline: Deadline) -> Plan:
        """Delete the volume."""
        volume = observation.volumes.find(self.tenant, self.name)
        if volume:
            _delete(self.ctx, volume)
        return todo


@dataclass(frozen=True)
class VolumeAttachment:
    """The attachment of a volume to a running host. The volume is created if it does not exist.

    :param host: the name of the host, of the volume's tenant.
    :param path: the mount point in the host.
    """

    ctx: Context
    spec: VolumeSpec
    host: str
    path: str

    def __post_init__(self) -> None:
        mount_point(self.path)

    def plan(self) -> Plan:
        """Return the actions that :meth:`apply` would take now. Changes nothing."""
        check_supported(self.ctx, self.spec.name)
        return self._plan_from(self.ctx.provider.observe(self.ctx.owner))

    def apply(self, deadline: Deadline) -> Plan:
        """Attach the volume; return the actions that were taken.

        :raises OperationRefused: if another host holds the volume; the error names that host.
        """
        ctx, spec = self.ctx, self.spec
        check_supported(ctx, spec.name)
        with exclusive(ctx, spec.tenant, spec.name, deadline):
            observation = ctx.provider.observe(ctx.owner)
            todo = self._plan_from(observation)
            volume = converge(ctx, spec, observation.volumes, observation.host_uuids, deadline)[1]
        # Without its lock from here on: the claim of the volume decides between two hosts.
        if any(action.verb == "attach" for action in todo.actions):
            record = attachment.need_running(observation, spec.tenant, self.host)
            claim = Attachment(record.uuid, record.name, self.path)
            with self._kept_running(record, deadline), ctx.guest(record, deadline) as guest:
                attachment.attach(ctx, record, volume, claim, guest)
            ctx.progress(f"volume {spec.name}: attached to host {self.host} at {self.path}")
        return todo

    @contextmanager
    def _kept_running(self, record: HostRecord, deadline: Deadline) -> Iterator[None]:
        """Hold the lock of a host that gets the key of a volume: a suspension or a branch checks
        under this lock that the host's memory contains no key, and then saves it.

        :raises Conflict: if the host was replaced or moved to another fleet in the meantime.
        :raises Unsupported: if the host does not run any more.
        """
        ctx = self.ctx
        if not record.encrypted:
            yield
            return
        with ctx.provider.exclusive(ctx.host_lock(record), deadline.within(LOCK_WAIT)):
            observation = ctx.provider.observe(ctx.owner)
            current = attachment.need_running(observation, record.tenant, record.name)
            if (current.uuid, current.fleet) != (record.uuid, record.fleet):
                raise Conflict(
                    "the host was replaced during the run.", name=record.title, remedy="run again"
                )
            yield

    def _plan_from(self, observation: Observation) -> Plan:
        ctx, spec, path = self.ctx, self.spec, self.path
        volume_plan = planned(ctx, spec, observation.volumes, observation.host_uuids)
        volume = observation.volumes.find(spec.tenant, spec.name)
        if spec.snapshot or (volume and volume.snapshot):
            attachment.check_attachable(volume or _draft(ctx, spec, 1))
        record = attachment.need_running(observation, spec.tenant, self.host)
        encryption.check(ctx, record.title, record.encrypted, [volume] if volume else [])
        if path == DOCKER_ROOT:
            raise OperationRefused(
                f"a volume cannot be mounted at {DOCKER_ROOT} of an existing host, because "
                "Docker runs there.",
                name=record.title,
                remedy="declare the volume with the host, whose template has docker: stopped",
            )
        current = volume.attachment if volume else None
        if volume and current and current.uuid != record.uuid:
            problem = f"the volume cannot be attached to host {self.host}"
            refuse_if_held(volume, observation.host_uuids, problem)
        if current and current.uuid == record.uuid and current.path != path:
            raise OperationRefused(
                f"the volume is mounted at {current.path} of this host, not at {path}.",
                name=f"volume {spec.name}",
                remedy="detach the volume first",
            )
        if current and current.uuid == record.uuid and current.mounted:
            return volume_plan
        after = {"host": self.host, "path": path}
        reason = f"it must be attached to host {self.host}"
        return Plan(
            (*volume_plan.actions, Action("attach", "volume", spec.name, reason, {}, after))
        )


@dataclass(frozen=True)
class VolumeDetachment:
    """The detachment of a volume from its host."""

    ctx: Context
    tenant: str
    name: str

    def plan(self) -> Plan:
        """Return the actions that :meth:`apply` would take now. Changes nothing.

        :raises OperationRefused: if the volume is declared with its host.
        """
        return self._plan_from(self.ctx.provider.observe(self.ctx.owner))

    def apply(self, deadline: Deadline) -> Plan:
        """Detach the volume; return the actions that were taken.

        :raises GuestError: if a program in the host uses the volume.
        """
        ctx = self.ctx
        observation = ctx.provider.observe(ctx.owner)
        todo = self._plan_from(observation)
        volume = attachment.need_in(observation.volumes, self.tenant, self.name)
        if todo and volume.attachment:
            host = volume.attachment.host
            if observation.host_uuids is not None and observation.attached_host(volume) is None:
                ctx.provider.volumes.claim(volume, attachment=None)
            else:
                record = attachment.need_running(observation, self.tenant, host)
                with ctx.guest(record, deadline) as guest:
                    attachment.detach(ctx, record, volume, guest)
            ctx.progress(f"volume {self.name}: detached from host {host}")
        return todo

    def _plan_from(self, observation: Observation) -> Plan:
        volume = attachment.need_in(observation.volumes, self.tenant, self.name)
        if volume.attachment is None:
            return Plan()
        host, host_uuids = volume.attachment.host, observation.host_uuids
        exists = host_uuids is None or volume.attachment.uuid in host_uuids
        if volume.attachment.declared and exists:
            raise OperationRefused(
                f"the volume is declared for host {host}.",
                name=volume.title,
                remedy="remove the volume from the declaration, or delete the host; the volume "
                "is retained",
            )
        before = {"host": host, "path": volume.attachment.path}
        action = Action("detach", "volume", self.name, "it must be detached", before, {})
        return Plan((action,))


def describe(ctx: Context, volume: VolumeRecord) -> VolumeInfo:
    """Return the public facts of a volume."""
    current_attachment, facts = volume.attachment, ctx.provider.volumes.facts(volume)
    return VolumeInfo(
        name=volume.name,
        tenant=volume.tenant,
        uuid=volume.uuid,
        size_gib=volume.size_gib,
        allocated=facts.allocated,
        shared=facts.shared,
        disk=facts.disk,
        filesystem=volume.filesystem,
        source=volume.source,
        snapshot=volume.snapshot,
        encrypted=bool(volume.encryption_id),
        host=current_attachment.host if current_attachment else "",
        path=current_attachment.path if current_attachment else "",
        mounted=bool(current_attachment and current_attachment.mounted),
        phase=volume.phase,
        created=volume.created,
    )


def _create(
    ctx: Context,
    spec: VolumeSpec,
    volumes: VolumeObservation,
    host_uuids: Collection[str] | None,
    deadline: Deadline,
    labels: Mapping[str, str],
) -> VolumeRecord:
    incomplete_volume = volumes.find(spec.tenant, spec.name)
    if incomplete_volume:
        _delete(ctx, incomplete_volume)
    source = _source(spec, volumes, host_uuids) if spec.source else None
    if source and source.attachment:
        # The host of its attachment no longer exists: otherwise the copy would have been refused.
        source = ctx.provider.volumes.claim(source, attachment=None)
    record = replace(_draft(ctx, spec, size_of(spec, source)), labels=dict(labels))
    if source:
        record = replace(record, filesystem=source.filesystem, encryption_id=source.encryption_id)
    try:
        ctx.provider.volumes.create(record, source, deadline)
        ready_record = ctx.provider.volumes.claim(record, phase="ready")
    except StockyardError:
        ctx.provider.volumes.destroy(record)
        raise
    ctx.progress(
        f"{record.title}: created{f' from {source.title}' if source else ''}, {record.size_gib} GiB"
    )
    return ready_record


def _source(
    spec: VolumeSpec, volumes: VolumeObservation, host_uuids: Collection[str] | None
) -> VolumeRecord:
    """Return the volume to copy.

    :raises OperationRefused: if a host holds it, or may hold it.
    """
    source = volumes.find(spec.tenant, spec.source)
    if source is None or source.phase != "ready":
        raise NotFound(
            "the source volume does not exist.",
            name=f"volume {spec.source}",
            remedy=f"create the source before {spec.name}",
        )
    refuse_if_held(source, host_uuids, f"volume {spec.name} cannot be created from it")
    if source.filesystem not in (BLANK, EXT4):
        raise OperationRefused(
            "the volume's file system is damaged.",
            name=source.title,
            remedy="attach the volume to a host once, which repairs the file system, or delete it",
        )
    return source


def _grow(ctx: Context, volume: VolumeRecord, size_gib: int, deadline: Deadline) -> VolumeRecord:
    # Grow the disk first: if the record is too small, the next run corrects it.
    ctx.provider.volumes.grow(volume, size_gib, deadline)
    volume = ctx.provider.volumes.claim(volume, size_gib=size_gib)
    if volume.attachment and volume.attachment.mounted:
        # Observe hosts after the volume: its host is then among them, or deleted.
        host = ctx.provider.observe(ctx.owner).attached_host(volume)
        if host and host.serving:
            with ctx.guest(host.record, deadline) as guest:
                attachment.mount(ctx, volume, volume.attachment.path, guest)
    ctx.progress(f"{volume.title}: grown to {size_gib} GiB")
    return volume


def _delete(ctx: Context, volume: VolumeRecord) -> None:
    ctx.provider.volumes.claim(volume, phase="deleting", attachment=None)
    ctx.provider.volumes.destroy(volume)
    ctx.progress(f"{volume.title}: deleted")


def _draft(ctx: Context, spec: VolumeSpec, size_gib: int) -> VolumeRecord:
    return VolumeRecord(
        owner=ctx.owner,
        tenant=spec.tenant,
        name=spec.name,
        uuid=str(uuid.uuid4()),
        size_gib=size_gib,
        phase="creating",
        created=ctx.clock.now(),
        source=spec.source,
        snapshot=spec.snapshot,
    )


def exclusive(
    ctx: Context, tenant: str, name: str, deadline: Deadline
) -> AbstractContextManager[None]:
    """Hold the lock of one volume."""
    return ctx.provider.exclusive(ctx.lock_name("volume", tenant, name), deadline.within(LOCK_WAIT))
