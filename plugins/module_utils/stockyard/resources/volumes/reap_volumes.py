# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes that a controller left incomplete when it died, in creation or in deletion, and volumes
whose hosts are deleted.
"""

from __future__ import annotations

from ...errors import Conflict, NotFound
from ...model.observation import Observation
from ...model.volume import VolumeRecord
from ...model.yard_info import SkippedObject
from ...planning.plan import Action
from ...planning.volumes import INCOMPLETE
from ..context import Context

LOCK_WAIT = 5.0
GONE = "its host no longer exists"


def run(
    ctx: Context, observation: Observation, grace: float, *, check: bool
) -> tuple[list[Action], list[SkippedObject]]:
    """Delete incomplete volumes, and detach volumes from hosts that no longer exist. A complete
    volume is never deleted.

    :param grace: seconds that the creation of a volume may take.
    :return: the actions that were taken, or would be, and the skipped volumes.
    """
    actions: list[Action] = []
    hosts = observation.host_uuids
    skipped = [
        SkippedObject(
            "volume", unreadable_object.name.removeprefix("volume "), unreadable_object.reason
        )
        for unreadable_object in observation.volumes.unreadable
    ]
    for volume in observation.volumes.volumes:
        incomplete = volume.phase == "deleting" or (
            volume.phase == "creating" and ctx.clock.now() - volume.created >= grace
        )
        orphaned = volume.attachment and hosts is not None and volume.attachment.uuid not in hosts
        try:
            if incomplete:
                actions += _destroyed(ctx, volume, check)
            elif orphaned:
                actions += _let_go(ctx, volume, check)
        except (Conflict, NotFound) as error:
            skipped.append(SkippedObject("volume", volume.name, str(error)))
    return actions, skipped


def _destroyed(ctx: Context, volume: VolumeRecord, check: bool) -> list[Action]:
    if not check:
        name = ctx.lock_name("volume", volume.tenant, volume.name)
        with ctx.provider.exclusive(name, ctx.deadline(LOCK_WAIT)):
            ctx.provider.volumes.claim(volume, phase="deleting", attachment=None)
            ctx.provider.volumes.destroy(volume)
        ctx.progress(f"{volume.title}: deleted ({INCOMPLETE[volume.phase]})")
    return [
        Action(
            "delete", "volume", volume.name, INCOMPLETE[volume.phase], {"phase": volume.phase}, {}
        )
    ]


def _let_go(ctx: Context, volume: VolumeRecord, check: bool) -> list[Action]:
    attachment = volume.attachment.host if volume.attachment else ""
    if not check:
        ctx.provider.volumes.claim(volume, attachment=None)
        ctx.progress(f"{volume.title}: detached, retained ({GONE}: {attachment})")
    return [Action("detach", "volume", volume.name, GONE, {"host": attachment}, {})]
