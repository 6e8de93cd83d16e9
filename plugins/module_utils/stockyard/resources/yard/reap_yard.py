# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reaper of a yard, on the controller's side: deletes expired, incomplete and orphaned objects
that are proven to be this owner's.

Every object is locked as its own convergence locks it, observed a second time, and only then
deleted. Objects that another controller works on, unreadable objects and objects of other owners
are skipped and named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ...clock import Deadline
from ...errors import Busy, Conflict, NotFound, StockyardError, joined
from ...model.host import HostRecord
from ...model.observation import Observation, OrphanedFile, Record, SweepResult
from ...model.yard_info import SkippedObject
from ...planning import container_machines, retention
from ...planning.plan import Action, Plan
from ..context import Context
from ..hosts import access, host_lifecycle
from ..volumes import reap_volumes
from . import controller_cleanup

LOCK_WAIT = 5.0
# Objects that are locked together: kind, tenant and name of a lock.
Group = tuple[str, str, str]


@dataclass(frozen=True)
class ReapResult:
    """The actions of the reaper, and the objects that it skipped, each with the reason."""

    plan: Plan
    skipped: tuple[SkippedObject, ...]


@dataclass(frozen=True)
class YardReaping:
    """The deletion of expired, incomplete and orphaned objects.

    :param grace: seconds that a creation may take before the object counts as incomplete, and that
        a container machine can be without the image host of its endpoint.
    """

    ctx: Context
    grace: float

    def plan(self) -> ReapResult:
        """Return the actions that :meth:`apply` would take now. Changes nothing."""
        ctx, grace = self.ctx, self.grace
        current_time = ctx.clock.now()
        observation = _with_marks(ctx.provider.observe(ctx.owner), current_time)
        sweep_result = _swept(ctx, grace, check=True)
        volumes, skipped_volumes = reap_volumes.run(ctx, observation, grace, check=True)
        files = (*sweep_result.removed, *controller_cleanup.sweep(ctx, observation, check=True))
        actions = [
            *(
                _goes(record, current_time, grace)
                for record in _records_to_delete(observation, current_time, grace)
            ),
            *volumes,
            *map(_removed, files),
        ]
        skipped = (
            *retention.skipped_objects(ctx.owner, observation, current_time, grace),
            *skipped_volumes,
            *retention.files_left(sweep_result.skipped),
        )
        return ReapResult(Plan(tuple(actions)), skipped)

    def apply(self, deadline: Deadline) -> ReapResult:
        """Reap the yard; return the actions that were taken.

        :raises StockyardError: if some objects could not be deleted; all other objects were.
        """
        ctx, grace = self.ctx, self.grace
        actions, errors = list[Action](), list[StockyardError]()
        observation = ctx.provider.observe(ctx.owner)
        changes = container_machines.changed_marks(observation, ctx.clock.now())
        skipped = _mark(ctx, changes, deadline)
        if changes:
            observation = ctx.provider.observe(ctx.owner)
        skipped += retention.skipped_objects(ctx.owner, observation, ctx.clock.now(), grace)
        groups = {
            _group(record) for record in _records_to_delete(observation, ctx.clock.now(), grace)
        }
        for group in sorted(groups):
            try:
                actions += _reap(ctx, group, grace, deadline)
            except Busy as error:
                skipped.append(SkippedObject(group[0], group[2], str(error)))
            except StockyardError as error:
                errors.append(error)
        # The last observation shows the volumes of the hosts that were deleted.
        for tenant in sorted({tenant for _kind, tenant, _name in groups}):
            observation = access.sync_known_hosts(ctx, tenant)
        volumes, skipped_volumes = reap_volumes.run(ctx, observation, grace, check=False)
        sweep_result = _swept(ctx, grace, check=False)
        files = (*sweep_result.removed, *controller_cleanup.sweep(ctx, observation, check=False))
        for file in files:
            ctx.progress(f"file {file.path}: deleted ({file.reason})")
        if errors:
            raise _failed(errors)
        skipped += [*skipped_volumes, *retention.files_left(sweep_result.skipped)]
        return ReapResult(Plan((*actions, *volumes, *map(_removed, files))), tuple(skipped))


def _with_marks(observation: Observation, current_time: float) -> Observation:
    """Return an observation in which the marks of container machines are up to date."""
    changes = container_machines.changed_marks(observation, current_time)
    labels = {record.uuid: changed_labels for record, changed_labels in changes}
    hosts = tuple(
        replace(host, record=replace(host.record, labels=labels[host.record.uuid]))
        if host.record.uuid in labels
        else host
        for host in observation.hosts
    )
    return replace(observation, hosts=hosts)


def _mark(
    ctx: Context, changes: list[tuple[HostRecord, dict[str, str]]], deadline: Deadline
) -> list[SkippedObject]:
    """Mark the container machines whose endpoint has no image host, and remove earlier marks.
    Return the machines that another controller works on.
    """
    skipped = []
    for record, labels in changes:
        lock = ctx.lock_name(record.kind, record.tenant, record.name)
        try:
            with ctx.provider.exclusive(lock, deadline.within(LOCK_WAIT)):
                host_lifecycle.relabel(ctx, record, labels)
        except (Busy, Conflict, NotFound) as error:
            skipped.append(SkippedObject(record.kind, record.name, str(error)))
    return skipped


def _swept(ctx: Context, grace: float, *, check: bool) -> SweepResult:
    """Return the files of machines and volumes that are reaped, or would be."""
    volumes = ctx.provider.volumes.sweep(ctx.owner, grace, check=check)
    machines = ctx.provider.sweep(ctx.owner, grace, check=check)
    return SweepResult((*machines.removed, *volumes.removed), (*machines.skipped, *volumes.skipped))


def _reap(ctx: Context, group: Group, grace: float, deadline: Deadline) -> list[Action]:
    """Delete the reapable records of one fleet, host or template, as observed under its lock, when
    no other controller works on it.
    """
    kind, tenant, name = group
    actions = []
    with ctx.provider.exclusive(ctx.lock_name(kind, tenant, name), deadline.within(LOCK_WAIT)):
        current_time = ctx.clock.now()
        records = [
            candidate
            for candidate in _records_to_delete(
                ctx.provider.observe(ctx.owner), current_time, grace
            )
            if _group(candidate) == group
        ]
        for record in records:
            deadline.check("reaping", name=record.title)
            _destroyer(record)(ctx, record)
            actions.append(_goes(record, current_time, grace))
    return actions


def _destroyer(record: Record) -> Callable[[Context, Any], None]:
    return host_lifecycle.destroy if record.kind == "host" else _destroy_template


def _destroy_template(ctx: Context, record: Any) -> None:
    ctx.provider.destroy(record)
    ctx.progress(f"{record.title}: deleted")


def _records_to_delete(observation: Observation, current_time: float, grace: float) -> list[Record]:
    """Return all records of this owner to delete, hosts before their templates."""
    return [
        *(host.record for host in retention.hosts(observation, current_time, grace)),
        *(template.record for template in retention.templates(observation, current_time, grace)),
    ]


def _group(record: Record) -> Group:
    fleet = getattr(record, "fleet", "")
    return ("fleet", record.tenant, fleet) if fleet else (record.kind, record.tenant, record.name)


def _goes(record: Record, current_time: float, grace: float) -> Action:
    return Action(
        "delete",
        record.kind,
        record.name,
        retention.why(record, current_time, grace),
        {"phase": record.phase},
        {},
    )


def _removed(orphan: OrphanedFile) -> Action:
    return Action("remove", "file", orphan.path, orphan.reason, {"path": orphan.path}, {})


def _failed(errors: list[StockyardError]) -> StockyardError:
    if len(errors) == 1:
        return errors[0]
    return joined(f"{len(errors)} objects could not be deleted.", errors)
