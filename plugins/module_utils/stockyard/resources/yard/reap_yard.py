# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Garbage collection from outside of the hosts: what is over, half-made or left behind, as far as
it is proven ours.

Every object is held as its own convergence holds it, looked at again, and only then taken away.
What another controller is at work on, what cannot be read and what is somebody else's is left alone
and named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ...clock import Deadline
from ...errors import Busy, StockyardError
from ...model.observation import Observation, OrphanedFile, Record, SweepResult
from ...planning import retention
from ...planning.plan import Action, Plan
from ...planning.retention import SkippedObject
from ..context import Context
from ..hosts import access, host_lifecycle
from ..volumes import reap_volumes
from . import controller_cleanup

LOCK_WAIT = 5.0
# What is held together: kind, tenant and name of a lock.
Group = tuple[str, str, str]


def plan(ctx: Context, grace: float) -> tuple[Plan, list[dict[str, Any]]]:
    """What :func:`run` would do, and what it would leave alone. Removes nothing."""
    seen, now = ctx.provider.observe(ctx.owner), ctx.clock.now()
    swept = _swept(ctx, grace, check=True)
    actions = [_goes(record, now, grace) for record in _over(seen, now, grace)]
    volumes, kept = reap_volumes.run(ctx, grace, check=True)
    actions += [
        *volumes,
        *map(_removed, (*swept.removed, *controller_cleanup.sweep(ctx, seen, check=True))),
    ]
    left = (
        retention.left_alone(ctx.owner, seen, now, grace)
        + kept
        + retention.files_left(swept.skipped)
    )
    return Plan(tuple(actions)), [asdict(one) for one in left]


def run(ctx: Context, grace: float, timeout: float) -> tuple[Plan, list[dict[str, Any]]]:
    """Take away what is over. Returns what was done, and what was left alone and why.

    :param grace: seconds that something may take to be made before it counts as left behind.
    :raises StockyardError: when some of it could not be taken away; all else was.
    """
    deadline, actions, errors = ctx.deadline(timeout), list[Action](), list[StockyardError]()
    seen = ctx.provider.observe(ctx.owner)
    left = retention.left_alone(ctx.owner, seen, ctx.clock.now(), grace)
    groups = {_group(record) for record in _over(seen, ctx.clock.now(), grace)}
    for group in sorted(groups):
        try:
            actions += _reap(ctx, group, grace, deadline)
        except Busy as error:
            left.append(SkippedObject(group[0], group[2], str(error)))
        except StockyardError as error:
            errors.append(error)
    for tenant in sorted({tenant for _kind, tenant, _name in groups}):
        access.sync_known_hosts(ctx, tenant)
    volumes, kept = reap_volumes.run(ctx, grace, check=False)
    actions, left = actions + volumes, left + kept
    swept = _swept(ctx, grace, check=False)
    files = (*swept.removed, *controller_cleanup.sweep(ctx, seen, check=False))
    for found in files:
        ctx.progress(f"file {found.path}: removed ({found.reason})")
    if errors:
        raise _failed(errors)
    every = left + retention.files_left(swept.skipped)
    return Plan((*actions, *map(_removed, files))), [asdict(one) for one in every]


def _swept(ctx: Context, grace: float, *, check: bool) -> SweepResult:
    """What a sweep takes away of machines' files and of volumes', or would."""
    volumes = ctx.provider.volumes.sweep(ctx.owner, grace, check=check)
    machines = ctx.provider.sweep(ctx.owner, grace, check=check)
    return SweepResult((*machines.removed, *volumes.removed), (*machines.skipped, *volumes.skipped))


def _reap(ctx: Context, group: Group, grace: float, deadline: Deadline) -> list[Action]:
    """Take away what is over of one fleet, host or template, as it is now that nobody else is at
    work on it.
    """
    kind, tenant, name = group
    done = []
    with ctx.provider.exclusive(ctx.lock_name(kind, tenant, name), deadline.within(LOCK_WAIT)):
        now = ctx.clock.now()
        mine = [r for r in _over(ctx.provider.observe(ctx.owner), now, grace) if _group(r) == group]
        for record in mine:
            deadline.check("reaping", name=record.title)
            _destroyer(record)(ctx, record)
            done.append(_goes(record, now, grace))
    return done


def _destroyer(record: Record) -> Callable[[Context, Any], None]:
    return host_lifecycle.destroy if record.kind == "host" else _destroy_template


def _destroy_template(ctx: Context, record: Any) -> None:
    ctx.provider.destroy(record)
    ctx.progress(f"{record.title}: destroyed")


def _over(seen: Observation, now: float, grace: float) -> list[Record]:
    """Everything of ours that is to go, hosts before what they live on."""
    return [
        *(h.record for h in retention.hosts(seen, now, grace)),
        *(t.record for t in retention.templates(seen, now, grace)),
    ]


def _group(record: Record) -> Group:
    fleet = getattr(record, "fleet", "")
    return ("fleet", record.tenant, fleet) if fleet else (record.kind, record.tenant, record.name)


def _goes(record: Record, now: float, grace: float) -> Action:
    return Action(
        "destroy",
        record.kind,
        record.name,
        retention.why(record, now, grace),
        {"phase": record.phase},
        {},
    )


def _removed(found: OrphanedFile) -> Action:
    return Action("remove", "file", found.path, found.reason, {"path": found.path}, {})


def _failed(errors: list[StockyardError]) -> StockyardError:
    if len(errors) == 1:
        return errors[0]
    return StockyardError(
        f"{len(errors)} things could not be taken away.", cause="; ".join(map(str, errors))
    )
